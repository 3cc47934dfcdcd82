"""Building the cells of a grid before it runs, each distinct part of them once."""

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
    """Builds cells on one benchmark to see whether they can be built.

    A cell that differs from the last one in arguments of its plugins, optimizer or schedule alone,
    as in most sweeps and searches, gets these made anew, and the last one's model and strategy.

    Args:
        benchmark: The benchmark.
    """

    def __init__(self, benchmark: CLScenario) -> None:
        self._benchmark = benchmark
        self._tried: set[str] = set()
        """Models that have been called already, and where."""
        self._rest = ""
        self._built: Built | None = None

    def check(self, cell: Cell) -> str:
        """Make of a cell what earlier ones have not, and check its plugins in their strategy.

        Returns:
            Why its steps run uncompiled, where it asks for compiled ones; "" otherwise.

        Raises:
            Exception: Whatever a component raises when its arguments do not fit.
        """
        rest = _beside_arguments(cell)
        if self._built and rest == self._rest:
            self._built = _with_other_arguments(self._built, cell)
        else:
            self._built = None  # Two models may be more than the memory holds.
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
    """All that a method says, without the arguments that `_with_other_arguments` can replace."""
    method = cell.method
    if not method.strategy.target.startswith(("avalanche.", "avalanche_ext.")):
        return repr(method)  # The user's may look at its plugins and optimizer when it is made.
    scheduler = method.scheduler and method.scheduler.target
    parts = (method.strategy, method.model, method.training, method.criterion, scheduler)
    plugins = [plugin.target for plugin in method.plugins]
    optimizer = method.optimizer.target, run_keys("optimizer", method.optimizer)
    return repr((*parts, plugins, optimizer))


def _with_other_arguments(built: Built, cell: Cell) -> Built:
    """Put a cell's plugins and optimizer in the places of another's."""
    strategy = built.strategy
    plugins = make_plugins(cell)
    groups = strategy.optimizer.param_groups
    optimizer = make_optimizer(cell, [each for group in groups for each in group["params"]])
    new = dict(zip(map(id, built.plugins), plugins, strict=True))
    strategy.plugins = [new.get(id(plugin), plugin) for plugin in strategy.plugins]
    strategy.optimizer = optimizer
    repair(strategy)
    return replace(built, plugins=plugins)
