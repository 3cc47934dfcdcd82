"""Memories of numbered samples, and the constraints that they set."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_ext.buffers import GroupBy, SlotBuffer, TaskBuffer
from avalanche_ext.plugins.projection.constraints import Chunk, Constraints
from tests.buffers.cases import numbered

CPU = torch.device("cpu")


def task_buffer(*sizes: int) -> TaskBuffer:
    """A memory of tasks 0, 1, ... with these numbers of samples, numbered in order of arrival."""
    buffer, tasks = TaskBuffer(max(sizes)), [t for t, n in enumerate(sizes) for _ in range(n)]
    buffer.add(*numbered(tasks))
    return buffer


def chunks(
    buffer: SlotBuffer,
    origin: int,
    *,
    limit: int = 1000,
    group_by: GroupBy = "task",
    n_groups: int = 1,
) -> list[Chunk]:
    return Constraints(buffer, group_by, n_groups).chunks(origin, CPU, limit)


def numbers(x: Tensor) -> list[int]:
    return x.flatten().int().tolist()


def members(found: list[Chunk]) -> list[list[list[int]]]:
    """Arrival numbers by chunk and constraint."""
    return [[numbers(x) for x, _, _ in chunk.groups()] for chunk in found]


class Watched:
    """Constraints of a memory that are asked for again and again, each task in its own chunk."""

    def __init__(
        self,
        buffer: SlotBuffer,
        group_by: GroupBy = "task",
        origin: int = 99,
        limit: int = 1,
        n_groups: int = 1,
    ) -> None:
        self.buffer, self.by, self.origin, self.limit = buffer, group_by, origin, limit
        self.constraints = Constraints(buffer, group_by, n_groups)
        self.last = self.ask()

    def ask(self) -> list[Chunk]:
        found = self.constraints.chunks(self.origin, CPU, self.limit)
        expected = chunks(
            self.buffer,
            self.origin,
            limit=self.limit,
            group_by=self.by,
            n_groups=self.constraints.n_groups,
        )
        assert members(found) == members(expected), "what is kept is still true"
        assert [chunk.sizes for chunk in found] == [chunk.sizes for chunk in expected]
        return found

    def fetched(self) -> list[int]:
        """Position of the chunks that have been fetched since the last time."""
        before, self.last = {id(chunk.x) for chunk in self.last}, self.ask()
        return [i for i, chunk in enumerate(self.last) if id(chunk.x) not in before]
