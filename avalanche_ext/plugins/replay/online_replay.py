"""Experience replay (ER) that draws anew in every iteration."""

from __future__ import annotations

from typing import Literal

from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import PositiveInt

from avalanche_ext.buffers import GroupBy, Slots, half_current
from avalanche_ext.data import Strategy
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.replay.memory import MemoryPlugin, ReplayLoss, StreamUse, named_buffer
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
            and the mean over the drawn rows, for criteria that are means over the batch; "separate"
            does, too, in a forward pass of its own for the drawn rows, which is another thing for
            models with batch normalisation.
        balance: What a "ring" is balanced over, "class" or "task".
        seed: Seed of the buffer that is made here.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If `loss` is not "union" although the stream's rows are stored first.
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
        loss: ReplayLoss = "union",
        balance: GroupBy = "class",
        seed: int = 0,
    ) -> None:
        if stream == "stored" and loss != "union":
            raise ValueError(
                f"loss={loss!r}: with stream='stored' there are drawn rows alone; give 'union'"
            )
        memory = named_buffer(buffer, mem_size, seed, balance)
        super().__init__(memory, batch_size, stream, loss)
        self.draw = draw

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        if self.draw == "half":
            tasks = self.buffer.groups("task")
            return half_current(tasks, self.batch_size, self._origin, self.buffer.rng)
        return self.buffer.sample_slots(self.batch_size)
