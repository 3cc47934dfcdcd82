"""Balanced experience replay (BER)."""

from __future__ import annotations

from typing import Literal

from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import PositiveInt

from avalanche_ext.buffers import (
    Eviction,
    GroupBy,
    RingBuffer,
    Slots,
    as_slot_buffer,
    balanced,
    uniform,
)
from avalanche_ext.data import Strategy
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.replay.memory import MemoryPlugin
from avalanche_ext.validation import validated


class BalancedReplayPlugin(MemoryPlugin):
    """BER of the DRL paper (Chen, Diethe and Flach 2020, Algorithms 1–3).

    Arriving samples are stored in a ring buffer balanced over classes, then one step is taken on a
    batch drawn from the buffer alone and balanced over classes. On domain-incremental streams,
    whose tasks have the same classes, both are balanced over tasks instead. The published setting
    loads one sample at a time (`train_mb_size=1`).

    Args:
        mem_size: Number of samples the ring buffer holds, at least one per class or task; not
            used if `buffer` is given.
        batch_size: Number of samples to train on in each iteration.
        buffer: A buffer to use instead of the ring, ours or Avalanche's.
        balance: "class", or "task", where a task is the experience a sample came from.
        positive_pairs: Whether batches shall hold pairs of one group even if there are more
            groups than half the batch.
        first_task: In the first task, batches are drawn "uniform" from the whole buffer, as in
            the official code, or "balanced" like later ones.
        eviction: Which sample of the largest group leaves the ring: the "oldest", as the paper has
            it, a "random" one, or the one "farthest" from or "nearest" to the group's mean, of
            which a later version of the official code takes the distance.
        seed: Seed of the ring buffer.

    Deviations from the paper:
        1. Which arriving classes a small batch must contain is read from the arriving rows, so
           that more than one sample may arrive at a time.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
    """

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 300,
        batch_size: PositiveInt = 20,
        *,
        buffer: ExemplarsBuffer | None = None,
        balance: GroupBy = "class",
        positive_pairs: bool = True,
        first_task: Literal["uniform", "balanced"] = "uniform",
        eviction: Eviction = "oldest",
        seed: int = 0,
    ) -> None:
        if buffer is None:
            buffer = RingBuffer(mem_size, balance, seed, eviction)
        super().__init__(as_slot_buffer(buffer, seed), batch_size, stream="stored")
        self.balance: GroupBy = balance
        self.positive_pairs = positive_pairs
        self.first_task = first_task

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        groups, rng = self.buffer.groups(self.balance), self.buffer.rng
        if self.first_task == "uniform" and self._is_first_task():
            return uniform(groups, self.batch_size, rng)
        classes = arrived[1]
        arriving = [self._origin] if self.balance == "task" else [*dict.fromkeys(classes.tolist())]
        return balanced(groups, self.batch_size, arriving, rng, self.positive_pairs)
