"""Experience replay (ER) with a new draw in every iteration."""

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
    """Experience replay (ER): train on each mini-batch together with samples from a memory.

    The defaults are ER as in Chaudhry et al. (2019, "On tiny episodic memories"). GMED's ER (Jin et
    al. 2021) is `loss="sum"`; the DRL paper's ER is `buffer="ring", draw="half", stream="stored",
    batch_size=20`.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples drawn in each iteration.
        buffer: "reservoir", "ring", or a buffer, ours or Avalanche's.
        draw: "uniform" draws from the whole memory, the current task included, without replacement,
            and takes all samples if there are fewer. "half" draws half from the current task and
            half from earlier ones, with replacement.
        stream: "joined" trains on the stream's rows and the drawn ones, and stores after the
            step; "stored" stores first and trains on drawn rows alone.
        loss: "union" is the criterion over all rows. "sum" is the criterion over the stream's rows
            plus that over the drawn rows. "separate" is the same sum, with a forward pass for the
            drawn rows alone, which differs for models with batch normalisation.
        balance: What a "ring" is balanced over, "class" or "task".
        seed: Seed of the memory that is created for a name.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `stream` is "stored"
            and `loss` is not "union".
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
                f"loss={loss!r} needs the stream's rows, but stream='stored' trains on drawn rows "
                "alone; give loss='union'"
            )
        memory = named_buffer(buffer, mem_size, seed, balance)
        super().__init__(memory, batch_size, stream, loss)
        self.draw = draw

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        if self.draw == "half":
            tasks = self.buffer.groups("task")
            return half_current(tasks, self.batch_size, self._task, self.buffer.rng)
        return self.buffer.sample_slots(self.batch_size)
