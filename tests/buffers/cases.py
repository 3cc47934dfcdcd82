"""Samples that carry their arrival number, and buffers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.buffers import (
    GreedyBuffer,
    ReservoirBuffer,
    RingBuffer,
    SlotBuffer,
    Slots,
    TaskBuffer,
    TaskClassBuffer,
)


class Scored(GreedyBuffer):
    """Gives each sample the cosine of its first coordinate as its score."""

    def add(
        self,
        x: Tensor,
        y: Tensor,
        t: Tensor,
        origin: int | Tensor | None = None,
        scores: Any = None,
    ) -> Slots:
        return super().add(x, y, t, origin, torch.cos(x.flatten(1)[:, 0]).tolist())


BUFFERS: dict[str, Callable[[int], SlotBuffer]] = {
    "reservoir": ReservoirBuffer,
    "ring over classes": RingBuffer,
    "ring over tasks": lambda size: RingBuffer(size, "task"),
    "ring, random": lambda size: RingBuffer(size, eviction="random"),
    "ring, farthest": lambda size: RingBuffer(size, eviction="farthest"),
    "ring, old and near": lambda size: RingBuffer(size, eviction="old and near"),
    "task": TaskBuffer,
    "task and class": TaskClassBuffer,
    "greedy": Scored,
}


def numbered(groups: Sequence[int], first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Samples (N, 1) that hold their arrival number, with `groups` as class and task labels."""
    x = torch.arange(first, first + len(groups), dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(groups, dtype=torch.int64)
    return x, labels, labels


def fill(buffer: SlotBuffer, groups: Sequence[int], batch_size: int = 3) -> None:
    """Show the buffer samples of these groups, in batches."""
    for start in range(0, len(groups), batch_size):
        buffer.add(*numbered(groups[start : start + batch_size], start))


def held(buffer: SlotBuffer) -> list[int]:
    """Arrival numbers of what the buffer holds."""
    return sorted(int(x) for x in buffer.buffer.x.flatten())
