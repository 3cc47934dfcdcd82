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
    """Balanced experience replay (BER) of the DRL paper (Chen, Diethe and Flach 2020).

    In every iteration the arriving samples are stored in a ring buffer balanced over classes; then
    one step is taken on a batch drawn from the buffer alone and balanced over classes (Algorithms
    1–3). On domain-incremental streams, whose tasks have the same classes, balance both over tasks
    (`balance="task"`). The paper loads one sample at a time (`train_mb_size=1`). Batches contain
    the pairs that `DRLPlugin`, `MultiSimilarityPlugin` and `RMarginPlugin` need.

    Args:
        mem_size: Number of samples the ring buffer holds, at least one per class or task; not
            used if `buffer` is given.
        batch_size: Number of samples to train on in each iteration.
        buffer: A memory to use instead of the ring, ours or Avalanche's.
        balance: "class", or "task"; a task is the experience a sample came from. If the model has a
            head for each task, the classes of different heads are different classes.
        positive_pairs: Whether each drawn group appears at least twice, even if other groups must
            then be left out of the batch.
        first_task: How to draw in the first task: "uniform" from the whole buffer, as in the
            official code, or "balanced" as in later tasks.
        eviction: Which sample of the largest group leaves the ring: the "oldest", as in the paper,
            a "random" one, the one "farthest" from or "nearest" to the group's mean, or one that
            is "old and near", as a later version of the official code has it; see `RingBuffer`.
        seed: Seed of the ring buffer.

    Deviation from the paper:

    1. More than one sample may arrive at a time. A batch that is too small for every class then
       contains the classes of all arriving rows; the paper has one arriving sample.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
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
        arriving = [self._task]
        if self.balance == "class":
            arriving = [*dict.fromkeys(self.buffer.classes(*arrived[1:]))]
        return balanced(groups, self.batch_size, arriving, rng, self.positive_pairs)
