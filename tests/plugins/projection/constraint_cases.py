"""Memories of numbered samples, and the constraints that they set."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_ext.buffers import GroupBy, SlotBuffer, TaskBuffer
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.projection.constraints import Constraints
from tests.buffers.cases import numbered

CPU = torch.device("cpu")


def task_buffer(*sizes: int) -> TaskBuffer:
    """A memory of tasks 0, 1, ... with these numbers of samples, numbered in order of arrival."""
    buffer, tasks = TaskBuffer(max(sizes)), [t for t, n in enumerate(sizes) for _ in range(n)]
    buffer.add(*numbered(tasks))
    return buffer


def constraints(
    buffer: SlotBuffer, origin: int, *, group_by: GroupBy = "task", n_groups: int = 1
) -> list[Columns]:
    return Constraints(buffer, group_by, n_groups).samples(origin, CPU)


def numbers(x: Tensor) -> list[int]:
    return x.flatten().int().tolist()


def members(found: list[Columns]) -> list[list[int]]:
    """Arrival numbers by constraint."""
    return [numbers(x) for x, _, _ in found]


class Watched:
    """Constraints of a memory, requested repeatedly."""

    def __init__(
        self,
        buffer: SlotBuffer,
        group_by: GroupBy = "task",
        origin: int = 99,
        n_groups: int = 1,
    ) -> None:
        self.buffer, self.by, self.origin = buffer, group_by, origin
        self.constraints = Constraints(buffer, group_by, n_groups)
        self.last = self.ask()

    def ask(self) -> list[Columns]:
        found = self.constraints.samples(self.origin, CPU)
        n_groups = self.constraints.n_groups
        expected = constraints(self.buffer, self.origin, group_by=self.by, n_groups=n_groups)
        assert members(found) == members(expected), "what is kept is still true"
        return found

    def fetched(self) -> list[int]:
        """Position of the constraints that have been fetched since the last time."""
        before, self.last = {id(x) for x, _, _ in self.last}, self.ask()
        return [i for i, (x, _, _) in enumerate(self.last) if id(x) not in before]
