"""Building the cells of a grid before it runs, each distinct part once."""

from __future__ import annotations

from dataclasses import replace

from avalanche.benchmarks import CLScenario

from avalanche_ext.config import Cell
from avalanche_ext.plugins import ReportingPlugin
from avalanche_ext.runner.components import Built, build_on, make_optimizer, make_plugins
from avalanche_ext.runner.recipe import run_keys
from avalanche_ext.strategies.compiled import why_eager
from avalanche_ext.strategies.repairs import repair


class Rehearsal:
    """Builds cells on one benchmark to check that they can be built.

    If a cell differs from the last one only in arguments of its plugins, optimizer or schedule, as
    in most sweeps and searches, only these are rebuilt, and the model and strategy are reused.

    Args:
        benchmark: The benchmark.
    """

    def __init__(self, benchmark: CLScenario) -> None:
        self._benchmark = benchmark
        self._tried: set[str] = set()
        """Models that have already been called, and where."""
        self._rest = ""
        self._built: Built | None = None

    def check(self, cell: Cell) -> str:
        """Build the new parts of a cell, and check its plugins in their strategy.

        Returns:
            Why its steps run uncompiled, where it asks for compiled ones; "" otherwise.

        Raises:
            Exception: Whatever a component raises when its arguments do not fit.
        """
        rest = _beside_arguments(cell)
        if self._built and rest == self._rest:
            self._built = _with_other_arguments(self._built, cell)
        else:
            self._built = None  # Two models at once may exceed the memory.
            model = repr((cell.model, cell.method.strategy.target, cell.training.iid))
            self._built = build_on(self._benchmark, cell, tries_model=model not in self._tried)
            self._tried.add(model)
            self._rest = rest
        strategy = self._built.strategy
        for plugin in strategy.plugins:
            if isinstance(plugin, ReportingPlugin):
                plugin.check(strategy)
        return why_eager(strategy) if cell.training.compile else ""


def _beside_arguments(cell: Cell) -> str:
    """Return a method's settings, without arguments that `_with_other_arguments` can replace."""
    method = cell.method
    if not method.strategy.target.startswith(("avalanche.", "avalanche_ext.")):
        return repr(method)  # A user's strategy may inspect its plugins and optimizer when built.
    scheduler = method.scheduler and method.scheduler.target
    parts = (method.strategy, method.model, method.training, method.criterion, scheduler)
    plugins = [plugin.target for plugin in method.plugins]
    optimizer = method.optimizer.target, run_keys("optimizer", method.optimizer)
    return repr((*parts, plugins, optimizer))


def _with_other_arguments(built: Built, cell: Cell) -> Built:
    """Replace another cell's plugins and optimizer by this cell's."""
    strategy = built.strategy
    plugins = make_plugins(cell)
    groups = strategy.optimizer.param_groups
    optimizer = make_optimizer(cell, [each for group in groups for each in group["params"]])
    new = dict(zip(map(id, built.plugins), plugins, strict=True))
    strategy.plugins = [new.get(id(plugin), plugin) for plugin in strategy.plugins]
    strategy.optimizer = optimizer
    repair(strategy)
    return replace(built, plugins=plugins)
