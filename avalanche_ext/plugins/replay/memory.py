"""What plugins that replay from a memory in every iteration share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from avalanche.models import avalanche_forward
from avalanche.training.storage_policy import ExemplarsBuffer
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
from avalanche_ext.data import Batch, Strategy, criterion_of, origin_index
from avalanche_ext.plugins.core.composition import Columns, MethodPlugin, is_writer, stream_rows
from avalanche_ext.traits import Phase, by

StreamUse = Literal["joined", "stored"]
ReplayLoss = Literal["union", "sum", "separate"]


class MemoryPlugin(MethodPlugin):
    """Draw from a buffer in every iteration, and let the buffer see what the stream brings.

    With `stream="joined"` the mini-batch becomes the stream's rows followed by the drawn ones,
    and the stream's rows are shown to the buffer after the step. With `stream="stored"` they are
    shown to the buffer first, and the mini-batch is made of drawn rows alone. While the buffer is
    empty, and where nothing is drawn, the mini-batch is trained on as it is. The buffer sees each
    sample once, in the first epoch of its experience.

    With `loss="union"` the criterion is that of all rows; with "sum" it is the sum of those of the
    stream's rows and of the drawn ones. With "separate" it is that sum, too, and the drawn rows run
    through the model by themselves, so that batch normalisation does not mix them with the
    stream's, which then are all that other plugins see; its running statistics count both.

    One of Avalanche's storage policies sees samples only when their experience has ended; with it
    the stream's rows are always joined, or they would never be trained on.

    Attributes:
        buffer: The memory.
        arrived: x, y and t of the current mini-batch as the stream brought it.
        n_stream: Number of rows at the head of the current mini-batch that the stream brought.
        slots: Slots of the rows that are replayed, (B,), which follow them unless they run apart.
    """

    phase = Phase.DATA
    stores: ClassVar[bool] = True
    splits_loss = by("loss", {"sum": True, "separate": True}, otherwise=False)

    def __init__(
        self, buffer: SlotBuffer, batch_size: int, stream: StreamUse, loss: ReplayLoss = "union"
    ) -> None:
        super().__init__()
        self.buffer = buffer
        self.batch_size = batch_size
        self.stream = stream
        self.loss = loss
        self.n_stream = 0
        self.slots: Slots = np.empty(0, dtype=np.int64)
        self._origin = 0
        self._is_to_store = False
        self._apart: list[Tensor] = []

    def _is_first_task(self) -> bool:
        """Tell whether the memory holds samples of no other task than the current one."""
        return self.buffer.groups("task").keys() <= {self._origin}

    @abstractmethod
    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        """Return the slots to replay with what has arrived from the stream, perhaps none."""

    def _replay(self, strategy: Strategy, arrived: Columns) -> tuple[Slots, Batch]:
        """Return the slots to replay, and copies of the samples to train on."""
        slots = self._draw(strategy, arrived)
        return slots, self.buffer.fetch(slots)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which experience the next mini-batches come from."""
        self._origin = origin_index(strategy.experience)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Extend or replace the mini-batch."""
        x, y, t = self.arrived = stream_rows(strategy, self)
        joined = self.stream == "joined" or isinstance(self.buffer, PolicyBuffer)
        is_new = strategy.clock.train_exp_epochs == 0 and is_writer(strategy, self)
        self._is_to_store = is_new and joined
        if is_new and not joined:
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
        """Turn the criterion of all rows into the sum of two, if that is asked for."""
        if self._apart:
            x, y, t = self._apart
            strategy.loss += criterion_of(strategy)(avalanche_forward(strategy.model, x, t), y)
            return
        n_stream, n_drawn = self.n_stream, len(self.slots)
        if self.loss == "union" or n_stream == 0 or n_drawn == 0:
            return
        outputs, labels, criterion = strategy.mb_output, strategy.mb_y, criterion_of(strategy)
        if n_stream == n_drawn and _is_plain_mean(criterion):
            strategy.loss += strategy.criterion()
            return
        on_stream = criterion(outputs[:n_stream], labels[:n_stream])
        on_drawn = criterion(outputs[n_stream:], labels[n_stream:])
        strategy.loss += on_stream + on_drawn - strategy.criterion()

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Show the buffer the stream's rows, if it has not seen them yet."""
        if self.arrived is not None and self._is_to_store:
            self.buffer.add(*self.arrived, self._origin)
            self._is_to_store = False

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Let one of Avalanche's storage policies see the experience."""
        if isinstance(self.buffer, PolicyBuffer) and is_writer(strategy, self):
            self.buffer.post_adapt(strategy, strategy.experience)


def named_buffer(
    buffer: Literal["reservoir", "ring"] | ExemplarsBuffer,
    mem_size: int,
    seed: int,
    balance: GroupBy = "class",
) -> SlotBuffer:
    """Return the buffer that a plugin's argument `buffer` means, a new one where it is a name."""
    if buffer == "reservoir":
        return ReservoirBuffer(mem_size, seed)
    if buffer == "ring":
        return RingBuffer(mem_size, balance, seed)
    return as_slot_buffer(buffer, seed)


def _is_plain_mean(criterion: Any) -> bool:
    """Tell whether the mean over two halves is that of their means."""
    of_torch = isinstance(criterion, nn.CrossEntropyLoss)
    return of_torch and criterion.reduction == "mean" and criterion.weight is None
