"""How methods that are plugins meet in one strategy."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar

from avalanche.core import SupervisedPlugin
from avalanche.training import plugins as theirs

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


class MethodPlugin(SupervisedPlugin):  # type: ignore[misc]
    """A method, or a part of one, that may be combined with others in one strategy.

    Plugins of the phases `PENALTY` and `PULL` combine in any number, those of `GRADIENT` act in
    list order. Of the phase `DATA` there can be one, because each takes the mini-batch it finds
    for what the stream has brought; so do Avalanche's replaying plugins, which for that reason go
    with none of ours that stores samples.
    """

    phase: ClassVar[Phase]
    stores: ClassVar[bool] = False
    """Whether it keeps samples of mini-batches as those of the current task."""

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the current experience, by name, for whoever logs the run."""
        return {}

    def check(self, strategy: Any) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        check_composition(strategy.plugins)

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse what cannot mean anything, before anything is trained."""
        self.check(strategy)


def diagnostics(plugins: Sequence[Any]) -> dict[str, float]:
    """Return what all plugins tell about the current experience, by name."""
    ours = (plugin for plugin in plugins if isinstance(plugin, MethodPlugin))
    return {name: number for plugin in ours for name, number in plugin.diagnostics().items()}


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
