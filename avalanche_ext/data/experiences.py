"""Avalanche's strategies and experiences, as this package uses them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor, nn


class Clock(Protocol):
    """Counters of a strategy, from 0."""

    train_iterations: int
    train_exp_epochs: int


class Strategy(Protocol):
    """The parts of an Avalanche strategy that this package uses.

    Experiences, datasets and evaluators stay `Any`: Avalanche decorates and proxies them, so no
    static type describes them.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    plugins: list[Any]
    evaluator: Any
    clock: Clock
    experience: Any
    adapted_dataset: Any
    dataloader: Any
    train_mb_size: int
    eval_mb_size: int
    mbatch: list[Tensor]
    mb_output: Tensor
    loss: Tensor

    @property
    def mb_x(self) -> Tensor:
        """Samples of the mini-batch, (B, ...)."""

    @property
    def mb_y(self) -> Tensor:
        """Labels of the mini-batch, (B,)."""

    @property
    def mb_task_id(self) -> Tensor:
        """Task labels of the mini-batch, (B,)."""

    def criterion(self) -> Tensor:
        """Return the criterion of the mini-batch's output."""

    def train(self, experiences: Any, eval_streams: Any = None, **kwargs: Any) -> Any:
        """Train on one experience or several."""

    def eval(self, experiences: Any, **kwargs: Any) -> Any:
        """Evaluate a stream."""

    def stop_training(self) -> None:
        """End the training on the current experience before the next iteration."""

    def optimizer_step(self) -> None:
        """Step the optimizer."""


def criterion_of(strategy: Strategy) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the strategy's loss function of outputs and labels.

    Only this function reads it, because Avalanche keeps it in a private attribute.
    """
    criterion: Callable[[Tensor, Tensor], Tensor] = strategy._criterion  # type: ignore[attr-defined]
    return criterion


def take_back_stop(strategy: Strategy) -> None:
    """Withdraw a request to stop that came in the last epoch of the previous experience.

    Avalanche checks for the request only before each iteration and each epoch, so one that comes
    after the very last iteration would end the next experience. Only this function withdraws it,
    because Avalanche keeps it in a private attribute.
    """
    strategy._stop_training = False  # type: ignore[attr-defined]


_STRATEGY_OF: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
_STREAM_OF: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()


def note_strategy(plugin: Any, strategy: Strategy) -> None:
    """Warn if a plugin that keeps data of a run has been used in another strategy before."""
    known = _STRATEGY_OF.get(plugin)
    if known is not None and known() is not strategy:
        name = type(plugin).__name__
        warnings.warn(
            f"this {name} has been in another strategy and still holds what it kept there: make a "
            f"new {name} for each strategy",
            stacklevel=2,
        )
    _STRATEGY_OF[plugin] = ref(strategy)


def has_new_stream(plugin: Any, experience: Any) -> bool:
    """Return whether the last call for a plugin was about an experience of another stream."""
    stream = origin_experience(experience).origin_stream
    known = _STREAM_OF.get(plugin)
    _STREAM_OF[plugin] = ref(stream)
    return known is not None and known() is not stream


def origin_experience(experience: Any) -> Any:
    """Return the experience that `experience` was cut from, or `experience` on a plain stream.

    `split_online_stream` turns every mini-batch into an experience, so anything that belongs to a
    task must be keyed by the original experience. A part that mixes several experiences, as in
    `split_continuous_linear_decay_stream`, belongs to none of them and is its own origin. The
    result is in logging mode, in which all its attributes can be read.
    """
    experience = experience.logging()
    if isinstance(experience, OnlineCLExperience) and experience.origin_experience is not None:
        return experience.origin_experience.logging()
    return experience


def by_origin(stream: Iterable[Any]) -> dict[int, list[Any]]:
    """Return the experiences of a stream by the index of the experience they were cut from.

    On a plain stream, each index has one experience.
    """
    groups: dict[int, list[Any]] = {}
    for experience in stream:
        groups.setdefault(origin_index(experience), []).append(experience)
    return groups


def origin_index(experience: Any) -> int:
    """Return the index in the original stream of the experience that `experience` belongs to."""
    return int(origin_experience(experience).current_experience)
