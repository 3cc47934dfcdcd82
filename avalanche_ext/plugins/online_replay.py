"""Experience replay (ER) that draws anew in every iteration."""

from __future__ import annotations

from typing import Any, Literal

from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.buffers import (
    GroupBy,
    ReservoirBuffer,
    RingBuffer,
    SlotBuffer,
    Slots,
    as_slot_buffer,
    half_current,
)
from avalanche_ext.plugins.memory import MemoryPlugin, StreamUse
from avalanche_ext.validation import validated


class OnlineReplayPlugin(MemoryPlugin):
    """Experience replay: each mini-batch is trained on together with a draw from a memory.

    The defaults are ER as Chaudhry et al. (2019, "On tiny episodic memories") describe it, the
    setting of GMED's ER is `loss="sum"` (Jin et al. 2021), the setting of the DRL paper's ER
    is `buffer="ring", draw="half", stream="stored", batch_size=20`.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples drawn in each iteration.
        buffer: "reservoir", "ring", or a buffer, ours or Avalanche's.
        draw: "uniform" draws from all that is held, without replacement, the current task
            included, and takes all if there are fewer; "half" draws with replacement, half of it
            from the current task and half from earlier ones.
        stream: "joined" trains on the stream's rows and the drawn ones, and stores after the
            step; "stored" stores first and trains on drawn rows alone.
        loss: "union" is the criterion over all rows; "sum" adds the mean over the stream's rows
            and the mean over the drawn rows, for criteria that are means over the batch.
        balance: What a "ring" is balanced over, "class" or "task".
        seed: Seed of the buffer that is made here.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
    """

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 500,
        batch_size: PositiveInt = 10,
        *,
        buffer: Literal["reservoir", "ring"] | ExemplarsBuffer = "reservoir",
        draw: Literal["uniform", "half"] = "uniform",
        stream: StreamUse = "joined",
        loss: Literal["union", "sum"] = "union",
        balance: GroupBy = "class",
        seed: int = 0,
    ) -> None:
        memory: SlotBuffer
        if buffer == "reservoir":
            memory = ReservoirBuffer(mem_size, seed)
        elif buffer == "ring":
            memory = RingBuffer(mem_size, balance, seed)
        else:
            memory = as_slot_buffer(buffer, seed)
        super().__init__(memory, batch_size, stream)
        self.draw = draw
        self.loss = loss

    def _draw(self, y: Tensor, origin: int) -> Slots:
        if self.draw == "half":
            return half_current(
                self.buffer.groups("task"), self.batch_size, origin, self.buffer.rng
            )
        return self.buffer.sample_slots(self.batch_size)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Turn the mean over all rows into the sum of the two means, if that is asked for.

        With s stream rows, m drawn rows and means L_s, L_m, the criterion has given
        (s L_s + m L_m) / (s + m); what is missing to L_s + L_m is (m L_s + s L_m) / (s + m).
        """
        n_stream, n_drawn = self.n_stream, len(self.slots)
        if self.loss == "union" or n_stream == 0 or n_drawn == 0:
            return
        if n_stream == n_drawn:
            strategy.loss += strategy.criterion()
            return
        outputs, labels, criterion = strategy.mb_output, strategy.mb_y, strategy._criterion
        on_stream = criterion(outputs[:n_stream], labels[:n_stream])
        on_drawn = criterion(outputs[n_stream:], labels[n_stream:])
        missing = (n_drawn * on_stream + n_stream * on_drawn) / (n_stream + n_drawn)
        strategy.loss += missing
