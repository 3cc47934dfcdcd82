"""Base class of plugins that replay from a memory in every iteration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from avalanche.core import BaseSGDPlugin
from avalanche.models import avalanche_forward
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.templates.problem_type import SupervisedProblem
from avalanche.training.templates.update_type import SGDUpdate
from torch import Tensor, nn

from avalanche_ext.buffers import (
    GroupBy,
    PolicyBuffer,
    ReservoirBuffer,
    RingBuffer,
    SlotBuffer,
    Slots,
    as_slot_buffer,
)
from avalanche_ext.data import Batch, Strategy, begins_batch, criterion_of, ends_batch
from avalanche_ext.plugins.core.composition import Columns, StoringPlugin, stream_rows
from avalanche_ext.traits import Phase, by

StreamUse = Literal["joined", "stored"]
ReplayLoss = Literal["union", "sum", "separate"]


class MemoryPlugin(StoringPlugin):
    """Train on samples drawn from a memory in every iteration, and store the stream's samples.

    A new replay method is a subclass whose `_draw` chooses the slots to replay.

    Args:
        buffer: The memory. It sees each sample once, in the first epoch of its experience. A
            `PolicyBuffer`, which wraps one of Avalanche's buffers, sees each experience as a whole
            when it has ended.
        batch_size: Number of samples to replay in each iteration, for subclasses to use.
        stream: "joined": the mini-batch is the stream's rows followed by the drawn ones, and the
            stream's rows are stored after the step. "stored": the stream's rows are stored first,
            and the mini-batch consists of drawn rows alone; with a `PolicyBuffer`, rows are joined
            even so, because otherwise they would never be trained on. If nothing is drawn, the
            mini-batch does not change.
        loss: "union" is the criterion over all rows. "sum" is the criterion over the stream's rows
            plus that over the drawn rows; it needs a strategy whose loss is the criterion over the
            mini-batch. "separate" is the same sum, with a forward pass for the drawn rows alone,
            and adds to the loss of any strategy: batch normalisation then does not mix them with
            the stream's rows in a batch, though its running statistics count both, and other
            plugins see the stream's rows only.

    Attributes:
        buffer: The memory.
        arrived: x, y and t of the current mini-batch as the stream brought it.
        n_stream: Number of the stream's rows in the current mini-batch; they come first.
        slots: Slots of the replayed rows, (B,). In the mini-batch these rows follow the stream's,
            except with `loss="separate"`.
    """

    phase = Phase.DATA
    splits_loss = by("loss", {"sum": True, "separate": True}, otherwise=False)
    replaces_criterion = by("loss", {"sum": True}, otherwise=False)
    reads_graph = by("loss", {"sum": True}, otherwise=False)

    def __init__(
        self, buffer: SlotBuffer, batch_size: int, stream: StreamUse, loss: ReplayLoss = "union"
    ) -> None:
        super().__init__()
        self.buffer: SlotBuffer = buffer
        self.batch_size = batch_size
        self.stream = stream
        self.loss = loss
        self.n_stream = 0
        self.slots: Slots = np.empty(0, dtype=np.int64)
        self._is_to_store = False
        self._has_checked_loss = False
        self._apart: list[Tensor] = []

    def _is_first_task(self) -> bool:
        """Return whether the memory holds samples of the current task only."""
        return self.buffer.groups("task").keys() <= {self._task}

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which experience the next mini-batches come from."""
        super().before_training_exp(strategy, **kwargs)
        self._has_checked_loss = False

    @abstractmethod
    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        """Return the slots to replay next to the samples that arrived; may be empty."""

    def _replay(self, strategy: Strategy, arrived: Columns) -> tuple[Slots, Batch]:
        """Return the slots to replay, and copies of the samples in them to train on."""
        slots = self._draw(strategy, arrived)
        return slots, self.buffer.fetch(slots)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Extend or replace the mini-batch."""
        x, y, t = self.arrived = stream_rows(strategy, self)
        joined = self.stream == "joined" or isinstance(self.buffer, PolicyBuffer)
        is_new = strategy.clock.train_exp_epochs == 0 and self._is_writer(strategy)
        self._is_to_store = is_new and joined and ends_batch(strategy)
        if is_new and not joined and begins_batch(strategy):
            self.buffer.add(x, y, t, self._origin)
        self.n_stream = len(y)
        self.slots = np.empty(0, dtype=np.int64)
        self._apart = []
        if not len(self.buffer):
            return
        self.slots, columns = self._replay(strategy, self.arrived)
        if not len(self.slots):
            return
        drawn = [column.to(y.device) for column in columns]
        if joined and self.loss == "separate":
            self._apart = drawn
            return
        if joined:
            drawn = [torch.cat(pair) for pair in zip(self.arrived, drawn, strict=True)]
        else:
            self.n_stream = 0
        # A benchmark without task labels has mini-batches of two columns.
        strategy.mbatch = drawn[: len(strategy.mbatch)]

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """With `loss` "sum" or "separate", turn the loss into the sum of two criteria.

        Raises:
            ValueError: With `loss` "sum", if the loss is not the criterion over the stream's rows
                and the drawn ones.
        """
        if self.loss != "union":
            strategy.loss += self._missing(strategy)

    def _missing(self, strategy: Strategy) -> Tensor:
        """Return the term that makes the criterion over the mini-batch a sum of two criteria."""
        criterion = criterion_of(strategy)
        if self._apart:
            x, y, t = self._apart
            return criterion(avalanche_forward(strategy.model, x, t), y)
        n_stream, n_drawn = self.n_stream, len(self.slots)
        if self.loss == "union" or n_stream == 0 or n_drawn == 0:
            return torch.zeros_like(strategy.loss)
        outputs, labels = strategy.mb_output, strategy.mb_y
        self._check_loss(strategy)
        if n_stream == n_drawn and _is_plain_mean(criterion, labels):
            # The means over two equal halves add up to twice the mean over all rows.
            return strategy.criterion()
        on_stream = criterion(outputs[:n_stream], labels[:n_stream])
        on_drawn = criterion(outputs[n_stream:], labels[n_stream:])
        return on_stream + on_drawn - strategy.criterion()

    def _check_loss(self, strategy: Strategy) -> None:
        """Raise ValueError if the loss is not the criterion over the stream's rows and the drawn.

        Values are compared in the first such iteration of an experience, and only in strategies
        with a loop or criterion of their own, because the comparison waits for the device.
        """
        n_rows, n_drawn = len(strategy.mb_output), len(self.slots)
        if n_rows != self.n_stream + n_drawn:
            raise ValueError(
                f"{type(self).__name__} has loss='sum', but the model ran on {n_rows} rows, not on "
                f"the stream's {self.n_stream} and the {n_drawn} drawn: give loss='separate' or "
                "'union'"
            )
        if self._has_checked_loss:
            return
        self._has_checked_loss = True
        if _is_standard(strategy) or _adds_earlier(strategy, self):
            return
        expected = criterion_of(strategy)(strategy.mb_output, strategy.mb_y)
        for loss in (strategy.loss, strategy.criterion()):
            loss, expected = loss.detach().float(), expected.detach().float()
            if not torch.allclose(loss, expected, rtol=0.01, equal_nan=True):
                raise ValueError(
                    f"{type(self).__name__} has loss='sum', but the loss of "
                    f"{type(strategy).__name__} is {float(loss):.6g}, not the criterion over the "
                    f"mini-batch's rows, {float(expected):.6g}: give loss='separate' or 'union'"
                )

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Store the stream's rows, unless they were stored before the step."""
        if self.arrived is not None and self._is_to_store:
            self.buffer.add(*self.arrived, self._origin)
            self._is_to_store = False


def named_buffer(
    buffer: Literal["reservoir", "ring"] | ExemplarsBuffer,
    mem_size: int,
    seed: int,
    balance: GroupBy = "class",
) -> SlotBuffer:
    """Return the memory for a plugin's argument `buffer`: a new one if it is a name."""
    if buffer == "reservoir":
        return ReservoirBuffer(mem_size, seed)
    if buffer == "ring":
        return RingBuffer(mem_size, balance, seed)
    return as_slot_buffer(buffer, seed)


def _is_standard(strategy: Strategy) -> bool:
    """Return whether the strategy's loop and criterion are Avalanche's usual ones."""
    kind: Any = type(strategy)
    return (
        kind.training_epoch is SGDUpdate.training_epoch
        and kind.criterion is SupervisedProblem.criterion
    )


def _adds_earlier(strategy: Strategy, plugin: MemoryPlugin) -> bool:
    """Return whether a plugin before this one may have added to the loss."""
    earlier = strategy.plugins[: strategy.plugins.index(plugin)]
    usual = BaseSGDPlugin.before_backward
    return any(getattr(type(p), "before_backward", usual) is not usual for p in earlier)


def _is_plain_mean(criterion: Callable[[Tensor, Tensor], Tensor], labels: Tensor) -> bool:
    """Return whether the criterion over all rows is the mean of those over its two halves."""
    return (
        isinstance(criterion, nn.CrossEntropyLoss)
        and criterion.reduction == "mean"
        and criterion.weight is None
        and not bool((labels == criterion.ignore_index).any())
    )
