"""How methods that are plugins meet in one strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from itertools import chain, count
from typing import Any, ClassVar, TypeVar

from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training import plugins as theirs
from numpy.typing import NDArray

Item = TypeVar("Item")

REPLAYING = (
    theirs.GDumbPlugin,
    theirs.GenerativeReplayPlugin,
    theirs.GSS_greedyPlugin,
    theirs.MIRPlugin,
    theirs.RARPlugin,
    theirs.ReplayPlugin,
)
"""Avalanche's plugins that bring samples of earlier experiences into training."""


class Phase(Enum):
    """At which point of an iteration a plugin acts; phases follow each other in this order."""

    DATA = "changes the mini-batch"
    PENALTY = "adds a term to the loss"
    GRADIENT = "edits the gradient"
    PULL = "moves the parameters after the optimizer's step"


class ReportingPlugin(SupervisedPlugin):  # type: ignore[misc]
    """A plugin that tells of a run: whoever runs it, and Avalanche's evaluator and its loggers.

    One that is no `MethodPlugin` looks on and changes nothing that is trained: it goes with any
    others.
    """

    def check(self, strategy: Any) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""

    def after_training(self, strategy: Any, **kwargs: Any) -> None:
        """Publish the experience's numbers."""
        self.publish(strategy)

    def publish(self, strategy: Any) -> None:
        """Hand the numbers of the current experience to Avalanche's evaluator."""
        publish = getattr(strategy.evaluator, "publish_metric_value", None)
        if publish:
            for name, value in self.diagnostics().items():
                publish(MetricValue(self, name, value, strategy.clock.train_iterations))

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the current experience, by name, for whoever logs the run."""
        return {}

    def series(self) -> dict[str, list[float]]:
        """Return numbers of each iteration of the current experience, by name.

        The k-th number belongs to the k-th iteration, from 0; nan where there is none.
        """
        return {}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return named arrays for reports to show of the whole run, by the exhibit's name.

        Runs keep each exhibit in a file of its name. The name "hash" is no array's.
        """
        return {}


class MethodPlugin(ReportingPlugin):
    """A method, or a part of one, that may be combined with others in one strategy.

    Plugins of the phases `PENALTY` and `PULL` combine in any number, those of `GRADIENT` act in
    list order. Of the phase `DATA` there can be one, because each takes the mini-batch it finds
    for what the stream has brought; so do Avalanche's replaying plugins, which for that reason go
    with none of ours that stores samples.
    """

    phase: Phase
    stores: ClassVar[bool] = False
    """Whether it keeps samples of mini-batches as those of the current task."""

    def check(self, strategy: Any) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        check_composition(strategy.plugins)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what cannot mean anything, before anything is trained."""
        self.check(strategy)


def diagnostics(plugins: Sequence[Any]) -> dict[str, float]:
    """Return what all plugins tell about the current experience, by name.

    Where several plugins give the same name, the later ones' get numbers: name, name-2, name-3.
    """
    return _of_all(plugins, lambda plugin: plugin.diagnostics())


def series(plugins: Sequence[Any]) -> dict[str, list[float]]:
    """Return what all plugins have recorded of the iterations; names as in `diagnostics`."""
    return _of_all(plugins, lambda plugin: plugin.series())


def exhibits(plugins: Sequence[Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return what all plugins have to show of the whole run; names as in `diagnostics`."""
    return _of_all(plugins, lambda plugin: plugin.exhibits())


def _of_all(
    plugins: Sequence[Any], ask: Callable[[ReportingPlugin], Mapping[str, Item]]
) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for plugin in plugins:
        if isinstance(plugin, ReportingPlugin):
            for name, item in ask(plugin).items():
                names = chain([name], (f"{name}-{i}" for i in count(2)))
                items[next(free for free in names if free not in items)] = item
    return items


def check_composition(plugins: Sequence[Any]) -> None:
    """Raise ValueError if `plugins` cannot act together in one strategy."""
    ours = [plugin for plugin in plugins if isinstance(plugin, MethodPlugin)]
    replaying = [p for p in ours if p.phase is Phase.DATA]
    others = [p for p in plugins if isinstance(p, REPLAYING)]
    storing = [p for p in ours if p.stores and p not in replaying]
    if len(replaying) > 1 or (others and (replaying or storing)):
        names = [type(p).__name__ for p in (*replaying, *(storing if others else ()), *others)]
        raise ValueError(
            f"{' and '.join(names)} cannot be combined: each would store what the other "
            "replays as if the stream had brought it; keep one of them"
        )
