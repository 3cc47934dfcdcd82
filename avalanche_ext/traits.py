"""Traits of plugins and strategies, and which combinations of them are refused.

Plugins of this package declare their traits as class attributes, see `MethodPlugin`. The traits of
Avalanche's plugins and strategies are in the table `AVALANCHE`. Checks of YAML files, which read
the source code, and running strategies both use `conflicts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

Trait = TypeVar("Trait")


class Phase(Enum):
    """The point of an iteration at which a plugin acts; phases follow each other in this order."""

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
        """Return the trait for this value of the argument."""
        # A value may be an unhashable list.
        matches = (trait for known, trait in self.values.items() if known == value)
        return next(matches, self.otherwise)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        if not hasattr(instance, self.argument):
            raise TypeError(
                f"a trait of {owner.__name__} depends on the argument {self.argument!r}, but the "
                "plugin keeps no attribute of that name"
            )
        return self.of(getattr(instance, self.argument))


def by(argument: str, values: Mapping[Any, Trait], otherwise: Trait) -> Trait:
    """Declare a trait that depends on one argument of the constructor.

    The plugin must keep the argument as an attribute of the same name.

    Args:
        argument: Name of the argument.
        values: The trait for some values of the argument.
        otherwise: The trait for all other values.

    >>> class Pulling:
    ...     phase = by("update", {"proximal": Phase.PULL}, otherwise=Phase.PENALTY)
    ...     update = "proximal"
    >>> Pulling().phase is Phase.PULL
    True
    """
    return cast("Trait", By(argument, values, otherwise))


@dataclass(frozen=True)
class Traits:
    """Traits of a plugin or strategy that determine what it can be combined with.

    Attributes:
        phase: When it acts; None if it does not change training. A plugin of the phase `DATA`
            replays stored samples.
        stores: Whether it stores samples of mini-batches as samples of the current task.
        knows_stream: Whether it can tell new rows of the stream from rows replayed by plugins of
            this package.
        beyond_criterion: Whether, besides acting in its phase, it also adds to the loss, edits the
            gradient or takes its own steps.
        criterion_alone: Whether it works only if the loss is the criterion over all rows.
        splits_loss: Whether it makes the loss a sum of criteria over parts of the rows.
        replaces_criterion: Whether it removes the criterion over all rows from the loss again.
        has_own_loss: Whether a strategy's loss is not the criterion over the rows of the
            mini-batch.
        has_own_loop: Whether a strategy trains without the backward pass and the optimizer's step
            around which other plugins act.
        takes_own_steps: Whether it moves the weights in the optimizer's place, so that settings of
            the optimizer's step have no effect.
        takes_more_steps: Whether it takes further steps after the strategy's, in which other
            plugins do not act.
        follows_path: Whether it sums up gradient times step over all steps of the weights.
        trains_once: Whether a strategy trains once, on all experiences together.
        packs_weights: Whether a strategy trains on one task at a time, and keeps earlier tasks by
            masking gradients.
        freezes_earlier: Whether a strategy freezes the weights that earlier experiences trained.
        starts_anew: Whether it resets the model when an experience begins.
        looks_back: Whether it does nothing before the first experience has ended.
        freezes_hidden: Whether it trains only the classifier after the first experience.
        trains_hidden: Whether it acts only on the hidden layers.
        has_no_scores: Whether a strategy's model has no differentiable class scores in evaluation
            mode, but distances from class means.
        needs_scores: Whether it differentiates the model's class scores in evaluation mode.
        adds_views: Whether a strategy's model sees a second view of each row of the mini-batch.
        reads_rows: Whether it needs one representation of each row of the mini-batch.
        reads_graph: Whether it differentiates the mini-batch's output or loss itself, or observes
            layers while the model runs, which a compiled step does not allow. A loss on layers that
            compiled code can contain does not count, see `RepresentationLossPlugin`.
    """

    phase: Phase | None = None
    stores: bool = False
    knows_stream: bool = False
    beyond_criterion: bool = False
    criterion_alone: bool = False
    splits_loss: bool = False
    replaces_criterion: bool = False
    has_own_loss: bool = False
    has_own_loop: bool = False
    takes_own_steps: bool = False
    takes_more_steps: bool = False
    follows_path: bool = False
    trains_once: bool = False
    packs_weights: bool = False
    freezes_earlier: bool = False
    starts_anew: bool = False
    looks_back: bool = False
    freezes_hidden: bool = False
    trains_hidden: bool = False
    has_no_scores: bool = False
    needs_scores: bool = False
    adds_views: bool = False
    reads_rows: bool = False
    reads_graph: bool = False

    @property
    def replays(self) -> bool:
        """Whether it brings stored samples into training."""
        return self.phase is Phase.DATA

    @property
    def changes_the_step(self) -> bool:
        """Whether it changes a training step beyond its mini-batch."""
        return self.beyond_criterion or self.phase not in (None, Phase.DATA)

    @property
    def moves_weights(self) -> bool:
        """Whether it edits gradients after the backward pass, or moves weights itself."""
        return self.phase in (Phase.GRADIENT, Phase.PULL)


NAMES = tuple(field.name for field in fields(Traits))

_REPLAY = Traits(Phase.DATA)
_REPLAY_AND_MORE = Traits(Phase.DATA, beyond_criterion=True, reads_graph=True)
_STARTING_ANEW = Traits(starts_anew=True)
_REPLAY_ANEW = Traits(Phase.DATA, starts_anew=True)
_PENALTY = Traits(Phase.PENALTY, looks_back=True)
_PENALTY_BY_PATH = replace(_PENALTY, follows_path=True)
_PENALTY_ON_SCORES = replace(_PENALTY, needs_scores=True)
_PENALTY_ON_FEATURES = replace(_PENALTY, reads_graph=True)
_DISTILLATION = replace(_PENALTY_ON_FEATURES, reads_rows=True)
_PROJECTION = Traits(Phase.GRADIENT, reads_rows=True)
_OWN_LOSS = Traits(beyond_criterion=True, has_own_loss=True)
_OWN_LOOP = Traits(beyond_criterion=True, has_own_loop=True)
_FREEZING = Traits(freezes_hidden=True)
_PROTOTYPES = replace(_REPLAY_AND_MORE, has_no_scores=True)
_REPLAY_BY_GRADIENTS = Traits(Phase.DATA, reads_graph=True)

AVALANCHE: dict[str, Traits] = {
    "AGEM": _PROJECTION,
    "AGEMPlugin": _PROJECTION,
    "AR1": _REPLAY_AND_MORE,
    "BiC": _REPLAY_AND_MORE,
    "BiCPlugin": _REPLAY_AND_MORE,
    "CWRStar": _FREEZING,
    "CWRStarPlugin": _FREEZING,
    "CoPE": _REPLAY_AND_MORE,
    "CoPEPlugin": _REPLAY_AND_MORE,
    "Cumulative": _REPLAY,
    "DER": _REPLAY_AND_MORE,
    "ER_ACE": _OWN_LOSS,
    "ER_AML": _OWN_LOSS,
    "EWC": _PENALTY_ON_SCORES,
    "EWCPlugin": _PENALTY_ON_SCORES,
    "FeatureDistillationPlugin": _PENALTY_ON_FEATURES,
    "FeatureReplay": _OWN_LOSS,
    "FromScratchTraining": _STARTING_ANEW,
    "FromScratchTrainingPlugin": _STARTING_ANEW,
    "GDumb": _REPLAY_ANEW,
    "GDumbPlugin": _REPLAY_ANEW,
    "GEM": _PROJECTION,
    "GEMPlugin": _PROJECTION,
    "GSS_greedy": _REPLAY_BY_GRADIENTS,
    "GSS_greedyPlugin": _REPLAY_BY_GRADIENTS,
    "GenerativeReplay": _REPLAY_AND_MORE,
    "GenerativeReplayPlugin": _REPLAY_AND_MORE,
    "ICaRL": _PROTOTYPES,
    "JointTraining": Traits(Phase.DATA, trains_once=True),
    "LFL": _PENALTY_ON_FEATURES,
    "LFLPlugin": _PENALTY_ON_FEATURES,
    "LaMAML": replace(_OWN_LOOP, takes_own_steps=True),
    "LearningToPrompt": _OWN_LOSS,
    "LwF": _DISTILLATION,
    "LwFPlugin": _DISTILLATION,
    "MAS": _PENALTY,
    "MASPlugin": _PENALTY,
    "MER": _OWN_LOOP,
    "MIR": _REPLAY_AND_MORE,
    "MIRPlugin": _REPLAY_AND_MORE,
    "PNNStrategy": Traits(freezes_earlier=True),
    "PackNet": Traits(packs_weights=True, freezes_earlier=True),
    "RARPlugin": _REPLAY_AND_MORE,
    "RWalkPlugin": replace(_PENALTY_ON_SCORES, follows_path=True),
    "Replay": _REPLAY,
    "ReplayPlugin": _REPLAY,
    "SCR": replace(_PROTOTYPES, adds_views=True),
    "StreamingLDA": _OWN_LOOP,
    "SynapticIntelligence": _PENALTY_BY_PATH,
    "SynapticIntelligencePlugin": _PENALTY_BY_PATH,
}
"""Traits of Avalanche's plugins and strategies by class name; all others do not change steps."""

_THEIRS = "avalanche."


def traits_of(part: Any) -> Traits:
    """Return the traits of a plugin or strategy: Avalanche's, overridden by those it declares."""
    known = _avalanches(*type(part).__mro__)
    values = [(name, getattr(part, name, None)) for name in NAMES]
    # Another library's plugin may use these names for something else.
    declared: dict[str, Any] = {
        name: value for name, value in values if isinstance(value, (Phase, bool))
    }
    return replace(known, **declared) if declared else known


@cache
def _avalanches(*bases: type) -> Traits:
    """Return the traits in `AVALANCHE` of the first of these classes found there."""
    names = [base.__name__ for base in bases if base.__module__.startswith(_THEIRS)]
    return next((AVALANCHE[name] for name in names if name in AVALANCHE), Traits())


@dataclass(frozen=True)
class Part:
    """A strategy or plugin of a method: the name that users see, and its traits."""

    name: str
    traits: Traits


@dataclass(frozen=True)
class Conflict:
    """Why a part of a method cannot be combined with another.

    Attributes:
        index: Index of the refused part.
        argument: The argument of that part to change; None if the part must go.
        message: The reason. About an argument, it completes a sentence that ends in "but".
    """

    index: int
    argument: str | None
    message: str


def conflicts(parts: Sequence[Part]) -> Iterator[Conflict]:
    """Yield reasons why a method's strategy and plugins cannot be combined; none if they can."""
    lone = next((part for part in parts if part.traits.criterion_alone), None)
    own_loss = next((part for part in parts if part.traits.has_own_loss), None)
    own_loop = next((part for part in parts if part.traits.has_own_loop), None)
    once = next((part for part in parts if part.traits.trains_once), None)
    packing = next((part for part in parts if part.traits.packs_weights), None)
    stepping = next((part for part in parts if part.traits.takes_more_steps), None)
    keeping = next((part for part in parts if part.traits.freezes_earlier), None)
    freezing = next((part for part in parts if part.traits.freezes_hidden), None)
    prototypes = next((part for part in parts if part.traits.has_no_scores), None)
    doubling = next((part for part in parts if part.traits.adds_views), None)
    for index, part in enumerate(parts):
        if once and part.traits.looks_back:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{once.name}', which trains once, on all "
                f"experiences together: '{part.name}' acts only after an experience has ended",
            )
        if packing and (part.traits.replays or part.traits.moves_weights):
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{packing.name}', which trains on one task "
                f"at a time and keeps earlier ones by masking gradients: '{part.name}' would mix "
                "tasks, or move weights that must stay",
            )
        elif keeping and part.traits.looks_back:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{keeping.name}', which freezes the "
                f"weights that earlier experiences trained: '{part.name}' would protect what "
                "cannot change",
            )
        elif keeping and part.traits.starts_anew:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{keeping.name}', which freezes the "
                f"weights that earlier experiences trained: '{part.name}' would reset them",
            )
        if stepping and part.traits.follows_path:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{stepping.name}', which takes further "
                f"steps after the strategy's: '{part.name}' sums up gradient times step over all "
                "steps",
            )
        if freezing and part.traits.trains_hidden:
            yield Conflict(
                index,
                "layers",
                f"must name layers, such as 'logits', with '{freezing.name}', which trains no "
                "hidden layer after the first experience",
            )
        if prototypes and part.traits.needs_scores:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{prototypes.name}', which classifies by "
                f"the nearest class mean: '{part.name}' needs gradients of class scores, which the "
                "model does not give in evaluation mode",
            )
        if doubling and part.traits.reads_rows:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{doubling.name}', which shows the model "
                f"two views of each sample in one pass: '{part.name}' needs one representation of "
                "each sample",
            )
        earlier = (other for other in parts[:index] if _mix_up(part.traits, other.traits))
        other = next(earlier, None)
        if other:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{other.name}': samples that "
                "one of them replays would look new to the other; keep one of them",
            )
        if own_loss and part.traits.replaces_criterion:
            yield Conflict(
                index,
                "loss",
                f"must be 'union' or 'separate' with '{own_loss.name}', whose loss is not the "
                "criterion over the rows of the mini-batch",
            )
        if own_loop and part is not own_loop and part.traits.changes_the_step:
            yield Conflict(
                index,
                None,
                f"'{part.name}' cannot be combined with '{own_loop.name}', which trains without "
                f"the backward pass and the optimizer's step that '{part.name}' would change",
            )
        elif own_loop and part.traits.splits_loss:
            yield Conflict(
                index,
                "loss",
                f"must be 'union' with '{own_loop.name}', which trains without the backward pass "
                "that adds the parts of the loss",
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
                f"must be 'union' with '{lone.name}', which needs one criterion over all rows of "
                "the mini-batch",
            )


def _mix_up(first: Traits, second: Traits) -> bool:
    """Return whether one would store samples that the other replays as new ones of the stream."""
    if first.knows_stream and second.knows_stream:
        return first.replays and second.replays
    return (first.replays and second.stores) or (second.replays and first.stores)
