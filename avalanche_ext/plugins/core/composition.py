"""How plugins act together in one strategy: phases, shared memories, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from typing import Any, ClassVar, TypeVar

import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.storage_policy import ExemplarsBuffer
from numpy.typing import NDArray
from torch import Tensor

from avalanche_ext.data import Strategy
from avalanche_ext.traits import Part, Phase, conflicts, traits_of

Columns = tuple[Tensor, Tensor, Tensor]
"""Samples x, (B, ...), labels y, (B,), and task labels t, (B,)."""

Item = TypeVar("Item")


class ReportingPlugin(SupervisedPlugin):  # type: ignore[misc]
    """A plugin that reports numbers and arrays about a run.

    One that is no `MethodPlugin` only looks on: it changes nothing that is trained, and goes with
    any others.
    """

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""

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
        """Return numbers about the current experience, by name, for whoever logs the run."""
        return {}

    def series(self) -> dict[str, list[float]]:
        """Return numbers of each iteration of the current experience, by name.

        The k-th number belongs to the k-th iteration, from 0; it is nan where there is none.
        """
        return {}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return arrays about the whole run that reports show: exhibit name → array name → array.

        Runs keep each exhibit in a file of its name. No array may have the name "hash".
        """
        return {}


class MethodPlugin(ReportingPlugin):
    """A method, or a part of one, that can be combined with others in one strategy.

    A subclass declares its traits (see `avalanche_ext.traits.Traits`) as class attributes. The
    value is a constant, or `avalanche_ext.traits.by(argument, {value: trait}, otherwise=trait)`
    where it depends on one argument of the constructor; checks of YAML files read it from the
    source. Any number of plugins of the phases `PENALTY` and `PULL` can be combined; those of
    `GRADIENT` act in list order. One plugin of the phase `DATA` can be in a strategy, because each
    takes the mini-batch that it finds for what the stream has brought.

    Attributes:
        arrived: What the stream has brought in the current mini-batch, where this plugin may have
            changed the mini-batch; None for all others.
    """

    phase: Phase
    stores: ClassVar[bool] = False
    knows_stream: ClassVar[bool] = True
    beyond_criterion: ClassVar[bool] = False
    criterion_alone: ClassVar[bool] = False
    splits_loss: ClassVar[bool] = False
    arrived: Columns | None = None

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        check_composition(strategy.plugins, strategy)

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Refuse impossible combinations before anything is trained."""
        self.check(strategy)


def check_composition(plugins: Sequence[Any], strategy: Strategy | None = None) -> None:
    """Raise ValueError if plugins cannot act together in one strategy.

    Args:
        plugins: The strategy's plugins, ours and Avalanche's.
        strategy: The strategy; None for one that does nothing by itself.
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
    """Return what the stream has brought in the current mini-batch, as a plugin sees it.

    A replay plugin that acts before `plugin` has changed the mini-batch, and remembers it.

    Raises:
        ValueError: If mini-batches have more columns than x, y and task labels.
    """
    for other in strategy.plugins:
        if other is plugin:
            break
        if isinstance(other, MethodPlugin) and other.arrived is not None:
            return other.arrived
    x, y, *rest = strategy.mbatch
    if len(rest) > 1:
        raise ValueError(
            f"mini-batches must be [x, y] or [x, y, task label], but have {len(rest) + 2} columns: "
            "a buffer would drop the others"
        )
    return x, y, rest[0] if rest else torch.zeros_like(y)


def is_writer(strategy: Strategy, plugin: Any) -> bool:
    """Return whether it is this plugin that shows its `buffer` what the stream brings.

    Of several plugins that share a buffer, one alone writes it: the one that replays from it, else
    the first.
    """
    sharing = [p for p in _storing(strategy) if p.buffer is plugin.buffer]
    replaying = [p for p in sharing if p.phase is Phase.DATA]
    return next(iter([*replaying, *sharing]), plugin) is plugin


def check_views(strategy: Strategy, plugin: Any) -> None:
    """Raise ValueError if another plugin has a `PolicyBuffer` of its own of the same memory."""
    mine = _policy(plugin.buffer)
    for other in _storing(strategy):
        if other.buffer is not plugin.buffer and _policy(other.buffer) is mine is not None:
            raise ValueError(
                f"buffer={mine}: {type(other).__name__} has it too, and both would write it; give "
                "both the same avalanche_ext.buffers.PolicyBuffer of it"
            )


def _storing(strategy: Strategy) -> list[Any]:
    return [p for p in strategy.plugins if isinstance(p, MethodPlugin) and p.stores]


def _policy(buffer: Any) -> ExemplarsBuffer | None:
    return getattr(buffer, "policy", None)


def diagnostics(plugins: Sequence[Any]) -> dict[str, float]:
    """Return what all plugins report about the current experience, by name.

    Where several plugins report the same name, the later ones get numbers: name, name-2, name-3.
    """
    return _of_all(plugins, lambda plugin: plugin.diagnostics())


def series(plugins: Sequence[Any]) -> dict[str, list[float]]:
    """Return what all plugins have recorded of the iterations; names as in `diagnostics`."""
    return _of_all(plugins, lambda plugin: plugin.series())


def exhibits(plugins: Sequence[Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the exhibits of all plugins for the whole run; names as in `diagnostics`."""
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
