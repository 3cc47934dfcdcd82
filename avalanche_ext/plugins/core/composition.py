"""How plugins act together in one strategy: phases, shared memories, and what they report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from typing import Any, ClassVar, TypeVar

import numpy as np
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import MetricValue
from numpy.typing import NDArray
from torch import Tensor

from avalanche_ext.buffers import SlotBuffer
from avalanche_ext.data import Strategy, has_new_stream, origin_index
from avalanche_ext.data.experiences import note_strategy
from avalanche_ext.plugins.core.guard import guard
from avalanche_ext.plugins.core.model import check_model, check_precision, task_labels
from avalanche_ext.state import StateError, encoded, restored
from avalanche_ext.traits import Part, Phase, conflicts, traits_of

Columns = tuple[Tensor, Tensor, Tensor]
"""Samples x, (B, ...), labels y, (B,), and task labels t, (B,)."""

Item = TypeVar("Item")


class ReportingPlugin(SupervisedPlugin):  # type: ignore[misc]
    """A plugin that reports numbers and arrays about a run.

    Unless it is also a `MethodPlugin`, it only observes: it changes nothing that is trained and
    can be combined with all other plugins.
    """

    needs_scores: ClassVar[bool] = False
    """Whether the plugin differentiates the model's class scores in evaluation mode."""
    needs_float32: ClassVar[bool] = False
    """Whether the plugin needs weights in float32 or float64."""

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        check_composition(strategy.plugins, strategy)
        if self.needs_float32:
            check_precision(strategy.model, type(self).__name__)

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse a strategy in which the plugin cannot act, before anything is trained."""
        note_strategy(self, strategy)
        self.check(strategy)

    def after_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Publish the experience's numbers."""
        self.publish(strategy)

    def publish(self, strategy: Strategy) -> None:
        """Hand the numbers of the current experience to Avalanche's evaluator."""
        publish = getattr(strategy.evaluator, "publish_metric_value", None)
        if publish:
            for name, value in self.diagnostics().items():
                publish(MetricValue(self, name, value, strategy.clock.train_iterations))

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the current experience, by name."""
        return {}

    def series(self) -> dict[str, list[float]]:
        """Return one number for each iteration of the current experience, by name.

        Iterations count from 0; the number is nan where there is nothing to report.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the plugin's state between two experiences, with its memory and generators.

        The state consists of tensors and plain data, which `torch.load(weights_only=True)` reads.
        It shares its tensors with the plugin, so save or copy it before training goes on.
        """
        return encoded(self, packages=_packages(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict` of a plugin created with the same arguments.

        Raises:
            ValueError: If it is the state of a plugin of another class, or is malformed.
        """
        if restored(state, self, packages=_packages(self)) is not self:
            raise StateError(f"it is not the state of a {type(self).__name__}")

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return arrays about the whole run for the report: exhibit name → array name → array.

        A run keeps each exhibit in a file of that name. No array may be named "hash".
        """
        return {}


class MethodPlugin(ReportingPlugin):
    """A method, or a part of one, that can be combined with others in one strategy.

    A plugin acts in one phase of an iteration. The phases follow each other in this order:

    - `DATA`: replaces or extends the mini-batch. A strategy can have at most one such plugin, ours
      or Avalanche's, because each assumes that the mini-batch it finds contains only new samples of
      the stream.
    - `PENALTY`: adds a term to the loss. Any number; terms add up.
    - `GRADIENT`: edits the gradient of the whole loss, penalties included. Any number; they act
      in the order of the strategy's list.
    - `PULL`: moves the parameters after the optimizer's step. Any number, in the list's order.

    The order of plugins within `GRADIENT` and within `PULL` changes the result: two projections do
    not commute, nor do two pulls unless both have a purely diagonal curvature.

    A subclass declares its phase and its other traits, described in `avalanche_ext.traits.Traits`,
    as class attributes: constants, or `avalanche_ext.traits.by(argument, {value: trait},
    otherwise=trait)` where a trait depends on an argument of the constructor. Checks of YAML files
    read them from the source code. A combination that makes no sense is refused by
    `check_composition`.

    Attributes:
        arrived: The stream's part of the current mini-batch, for a plugin that may change the
            mini-batch; None otherwise.
        not_pickled: Names of attributes that are None in a pickle, in addition to those of base
            classes. They refer to the model, the current iteration or an experience, and are set
            again when training continues.
    """

    phase: Phase
    stores: ClassVar[bool] = False
    knows_stream: ClassVar[bool] = True
    beyond_criterion: ClassVar[bool] = False
    criterion_alone: ClassVar[bool] = False
    takes_own_steps: ClassVar[bool] = False
    takes_more_steps: ClassVar[bool] = False
    follows_path: ClassVar[bool] = False
    splits_loss: ClassVar[bool] = False
    replaces_criterion: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False
    trains_hidden: ClassVar[bool] = False
    reads_rows: ClassVar[bool] = False
    reads_graph: ClassVar[bool] = False
    arrived: Columns | None = None
    not_pickled: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        names = [name for base in type(self).__mro__ for name in vars(base).get("not_pickled", ())]
        return {**self.__dict__, **dict.fromkeys(names)}

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        if not hasattr(self, "phase"):
            raise ValueError(
                f"{type(self).__name__} declares no phase, so it cannot be checked against other "
                "plugins: give the class an attribute `phase`, such as Phase.PENALTY"
            )
        super().check(strategy)
        check_model(strategy.model)

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse impossible combinations before anything is trained, and guard the loss."""
        super().before_training(strategy, **kwargs)
        guard(strategy)


class StoringPlugin(MethodPlugin):
    """A method that stores samples of the stream in a memory.

    Several plugins of a strategy may share one memory. Only one of them then writes to it: the one
    that replays, else the first in the list.

    The strategy must train on the experience's own samples. A strategy or plugin whose dataset or
    loader brings others is refused before the experience's first step.

    Attributes:
        buffer: The memory.
    """

    stores: ClassVar[bool] = True
    buffer: SlotBuffer
    _origin = 0
    _task = 0

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        policy = getattr(self.buffer, "policy", None)
        views = [p for p in _storing(strategy) if getattr(p.buffer, "policy", None) is policy]
        if policy is not None and any(p.buffer is not self.buffer for p in views):
            names = " and ".join(type(p).__name__ for p in views)
            raise ValueError(
                f"buffer={policy}: {names} would each write to it; wrap it in one "
                "avalanche_ext.buffers.PolicyBuffer and give that to all of them"
            )

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which experience and task the next mini-batches come from."""
        self.buffer.note_heads(strategy.model)
        self._origin = origin_index(strategy.experience)
        self._task = self.buffer.task_of(strategy.experience)
        if has_new_stream(self, strategy.experience) and self._task in self.buffer.tasks():
            warnings.warn(
                f"{type(self).__name__} holds samples of task {self._task} of another stream, and "
                "takes them for samples of the current task, which has the same number: make one "
                "stream of all experiences, or a new plugin for each stream",
                stacklevel=2,
            )

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse samples from outside the experience, once all plugins have set their loaders.

        Raises:
            ValueError: If the strategy or a plugin brings more samples than the experience holds.
        """
        n_held = len(strategy.experience.dataset)
        n_brought = max(len(strategy.adapted_dataset), _n_samples(strategy.dataloader))
        if n_brought > n_held:
            name = type(self).__name__
            raise ValueError(
                f"{name} would treat old samples as new ones: experience {self._origin} holds "
                f"{n_held} samples, but the strategy trains on {n_brought}; remove {name}, or the "
                "strategy or plugin that adds samples"
            )

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Show the experience to the memory if it is one of Avalanche's."""
        if hasattr(self.buffer, "policy") and self._is_writer(strategy):
            self.buffer.post_adapt(strategy, strategy.experience)

    def _is_writer(self, strategy: Strategy) -> bool:
        """Return whether this plugin writes what the stream brings to its memory."""
        sharing = [p for p in _storing(strategy) if p.buffer is self.buffer]
        replaying = [p for p in sharing if p.phase is Phase.DATA]
        return next(iter([*replaying, *sharing]), self) is self

    def _fetched(self, strategy: Strategy, slots: NDArray[np.int64]) -> Columns:
        """Return copies of the samples in these slots, on the strategy's device."""
        x, y, t = (column.to(strategy.device) for column in self.buffer.fetch(slots))
        return x, y, t


def _storing(strategy: Strategy) -> list[StoringPlugin]:
    return [p for p in strategy.plugins if isinstance(p, StoringPlugin)]


def _n_samples(loader: Any) -> int:
    """Return the number of samples that a loader draws from; 0 if it is unknown."""
    datasets = getattr(loader, "datasets", [getattr(loader, "dataset", ())])
    return sum(len(each) for each in datasets if hasattr(each, "__len__"))


def _packages(plugin: object) -> list[str]:
    """Return the packages of a user's plugin, whose objects its state may contain."""
    return [type(plugin).__module__.partition(".")[0]]


def check_composition(plugins: Sequence[object], strategy: Strategy | None = None) -> None:
    """Raise ValueError if plugins cannot act together in one strategy.

    Args:
        plugins: The strategy's plugins, ours and Avalanche's.
        strategy: The strategy; None to check the plugins alone.
    """
    parts = [Part(type(each).__name__, traits_of(each)) for each in (strategy, *plugins)]
    for conflict in conflicts(parts):
        if conflict.argument is None:
            raise ValueError(conflict.message)
        value = getattr(plugins[conflict.index - 1], conflict.argument)
        raise ValueError(
            f"{parts[conflict.index].name} has {conflict.argument}={value!r}, but "
            f"{conflict.message}"
        )


def stream_rows(strategy: Strategy, plugin: MethodPlugin) -> Columns:
    """Return the samples of the current mini-batch that are new from the stream.

    They are the mini-batch itself, unless a replay plugin listed before `plugin` has changed it.
    That plugin then remembers what arrived.

    Raises:
        ValueError: If mini-batches have more columns than x, y and task labels.
    """
    for other in strategy.plugins:
        if other is plugin:
            break
        # Others remember what arrived too, but leave the mini-batch as it is.
        if not isinstance(other, MethodPlugin) or other.phase is not Phase.DATA:
            continue
        if other.arrived is not None:
            return other.arrived
    x, y, *rest = strategy.mbatch
    if len(rest) > 1:
        raise ValueError(
            f"mini-batches have {len(rest) + 2} columns, but a memory stores only x, y and task "
            "labels: drop the other columns from the dataset"
        )
    return x, y, task_labels(strategy)


def diagnostics(plugins: Sequence[object]) -> dict[str, float]:
    """Return what all plugins report about the current experience, by name.

    If several plugins report the same name, the later ones get numbers: name, name-2, name-3.
    """
    return _of_all(plugins, lambda plugin: plugin.diagnostics())


def series(plugins: Sequence[object]) -> dict[str, list[float]]:
    """Return what all plugins recorded in each iteration; names as in `diagnostics`."""
    return _of_all(plugins, lambda plugin: plugin.series())


def exhibits(plugins: Sequence[object]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return all plugins' exhibits of the whole run; names as in `diagnostics`."""
    return _of_all(plugins, lambda plugin: plugin.exhibits())


def _of_all(
    plugins: Sequence[object], ask: Callable[[ReportingPlugin], Mapping[str, Item]]
) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for plugin in plugins:
        if isinstance(plugin, ReportingPlugin):
            for name, item in ask(plugin).items():
                names = chain([name], (f"{name}-{i}" for i in count(2)))
                items[next(free for free in names if free not in items)] = item
    return items
