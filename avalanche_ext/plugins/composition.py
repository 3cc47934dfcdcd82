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
    for what the stream has brought.
    """

    phase: ClassVar[Phase]

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Refuse a combination that cannot mean anything, before anything is trained."""
        check_composition(strategy.plugins)


def check_composition(plugins: Sequence[Any]) -> None:
    """Raise ValueError if `plugins` cannot act together in one strategy."""
    ours = [p for p in plugins if isinstance(p, MethodPlugin) and p.phase is Phase.DATA]
    others = [p for p in plugins if isinstance(p, REPLAYING)]
    replaying = [type(plugin).__name__ for plugin in (*ours, *others)]
    if ours and len(replaying) > 1:
        raise ValueError(
            f"{' and '.join(replaying)} cannot be combined: each would store what the other "
            "replays as if the stream had brought it; keep one of them"
        )
