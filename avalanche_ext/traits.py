"""Traits of plugins and strategies, and which of them can act together.

Plugins of this package declare their traits as class attributes, as `MethodPlugin` explains. Those
of Avalanche's plugins and strategies stand in `AVALANCHE`. Both the check of a YAML, which reads
source files, and a running strategy judge from them by `conflicts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any


class Phase(Enum):
    """The point of an iteration at which a plugin acts. Phases follow each other in this order."""

    DATA = "changes the mini-batch"
    PENALTY = "adds a term to the loss"
    GRADIENT = "edits the gradient"
    PULL = "moves the parameters after the optimizer's step"


class By:
    """A trait that depends on one argument of a constructor; see `by`."""

    def __init__(self, argument: str, values: Mapping[Any, Any], otherwise: Any) -> None:
        self.argument = argument
        self.values = values
        self.otherwise = otherwise

    def of(self, value: Any) -> Any:
        """Return the trait where the argument has this value."""
        return self.values.get(value, self.otherwise)

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.of(getattr(instance, self.argument))


def by(argument: str, values: Mapping[Any, Any], otherwise: Any) -> Any:
    """Declare a trait that depends on one argument of the constructor.

    An instance must keep the argument as an attribute of the same name.

    Args:
        argument: Name of the argument.
        values: The trait by the argument's value.
        otherwise: The trait for all other values.

    >>> class Pulling:
    ...     phase = by("update", {"proximal": Phase.PULL}, otherwise=Phase.PENALTY)
    ...     update = "proximal"
    >>> Pulling().phase is Phase.PULL
    True
    """
    return By(argument, values, otherwise)


@dataclass(frozen=True)
class Traits:
    """What decides whether a plugin or strategy can act beside another one.

    Attributes:
        phase: When it acts; None if it changes nothing that is trained. A plugin of the phase
            `DATA` replays stored samples.
        stores: Whether it keeps samples of mini-batches as samples of the current task.
        knows_stream: Whether it tells the stream's rows from rows that plugins of this package
            replay.
        beyond_criterion: Whether, besides acting in its phase, it adds to the loss, edits the
            gradient or takes steps of its own.
        criterion_alone: Whether it works only with the plain criterion of all rows.
        splits_loss: Whether the loss is another function than the criterion of all rows.
    """

    phase: Phase | None = None
    stores: bool = False
    knows_stream: bool = False
    beyond_criterion: bool = False
    criterion_alone: bool = False
    splits_loss: bool = False

    @property
    def replays(self) -> bool:
        """Whether it brings stored samples into training."""
        return self.phase is Phase.DATA

    @property
    def changes_the_step(self) -> bool:
        """Whether it changes more of a training step than its mini-batch."""
        return self.beyond_criterion or self.phase not in (None, Phase.DATA)


NAMES = tuple(field.name for field in fields(Traits))

_REPLAY = Traits(Phase.DATA)
_REPLAY_AND_MORE = Traits(Phase.DATA, beyond_criterion=True)
_PENALTY = Traits(Phase.PENALTY)
_PROJECTION = Traits(Phase.GRADIENT)
_OWN_STEP = Traits(beyond_criterion=True)

AVALANCHE: dict[str, Traits] = {
    "AGEM": _PROJECTION,
    "AGEMPlugin": _PROJECTION,
    "AR1": _PENALTY,
    "BiC": _PENALTY,
    "BiCPlugin": _PENALTY,
    "DER": _OWN_STEP,
    "ER_ACE": _OWN_STEP,
    "ER_AML": _OWN_STEP,
    "EWC": _PENALTY,
    "EWCPlugin": _PENALTY,
    "FeatureDistillationPlugin": _PENALTY,
    "FeatureReplay": _OWN_STEP,
    "GDumb": _REPLAY,
    "GDumbPlugin": _REPLAY,
    "GEM": _PROJECTION,
    "GEMPlugin": _PROJECTION,
    "GSS_greedy": _REPLAY,
    "GSS_greedyPlugin": _REPLAY,
    "GenerativeReplay": _REPLAY_AND_MORE,
    "GenerativeReplayPlugin": _REPLAY_AND_MORE,
    "ICaRL": _OWN_STEP,
    "LFL": _PENALTY,
    "LFLPlugin": _PENALTY,
    "LaMAML": _OWN_STEP,
    "LearningToPrompt": _OWN_STEP,
    "LwF": _PENALTY,
    "LwFPlugin": _PENALTY,
    "MAS": _PENALTY,
    "MASPlugin": _PENALTY,
    "MER": _OWN_STEP,
    "MIR": _REPLAY_AND_MORE,
    "MIRPlugin": _REPLAY_AND_MORE,
    "RARPlugin": _REPLAY_AND_MORE,
    "RWalkPlugin": _PENALTY,
    "Replay": _REPLAY,
    "ReplayPlugin": _REPLAY,
    "SCR": _OWN_STEP,
    "SynapticIntelligence": _PENALTY,
    "SynapticIntelligencePlugin": _PENALTY,
}
"""Traits of Avalanche's plugins and strategies by class name; those not here change no step."""

_THEIRS = "avalanche."


def traits_of(part: Any) -> Traits:
    """Return the traits of a plugin or strategy: those it declares, or Avalanche's."""
    declared = {name: getattr(part, name) for name in NAMES if hasattr(part, name)}
    if declared:
        return Traits(**declared)
    names = [base.__name__ for base in type(part).__mro__ if base.__module__.startswith(_THEIRS)]
    return next((AVALANCHE[name] for name in names if name in AVALANCHE), Traits())


@dataclass(frozen=True)
class Part:
    """A strategy or plugin of a method: the name that its user knows, and its traits."""

    name: str
    traits: Traits


@dataclass(frozen=True)
class Conflict:
    """Why one part of a method cannot act beside another.

    Attributes:
        index: Which of the parts is refused.
        argument: The argument of it that is in the way; None if the whole part is.
        message: The reason; about an argument, it continues "…, but".
    """

    index: int
    argument: str | None
    message: str


def conflicts(parts: Sequence[Part]) -> Iterator[Conflict]:
    """Yield what keeps the parts of a method, a strategy and its plugins, from acting together."""
    lone = next((part for part in parts if part.traits.criterion_alone), None)
    for index, part in enumerate(parts):
        earlier = (other for other in parts[:index] if _mix_up(part.traits, other.traits))
        other = next(earlier, None)
        if other:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{other.name}': each would store "
                "what the other replays as if the stream had brought it; keep one of them",
            )
        if lone is None or part is lone:
            continue
        if part.traits.changes_the_step:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{lone.name}', which uses the criterion "
                "alone, at several draws of the weights, and moves the weights itself",
            )
        elif part.traits.splits_loss:
            yield Conflict(
                index,
                "loss",
                f"must be 'union' beside '{lone.name}', which sums the criterion over all rows of "
                "the mini-batch",
            )


def _mix_up(first: Traits, second: Traits) -> bool:
    """Return whether one stores what the other replays, as if the stream had brought it."""
    if first.knows_stream and second.knows_stream:
        return first.replays and second.replays
    return (first.replays and second.stores) or (second.replays and first.stores)
