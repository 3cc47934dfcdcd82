"""Which samples of a memory stand for which constraint of a gradient projection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.buffers import GroupBy, SlotBuffer


@dataclass(frozen=True)
class Chunk:
    """Samples of some constraints, one constraint's after another's.

    Attributes:
        x: Samples, (N, ...).
        y: Class labels, (N,).
        t: Task labels, (N,).
        sizes: Number of samples of each constraint, with the sum N.
    """

    x: Tensor
    y: Tensor
    t: Tensor
    sizes: list[int]

    def groups(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Return x, y and t of each constraint."""
        columns = (self.x, self.y, self.t)
        return zip(*(torch.split(column, self.sizes) for column in columns), strict=True)


Chunks = dict[tuple[int, ...], tuple[list[object], Chunk]]
"""By the classes or tasks of each chunk, their versions and the chunk."""


class Constraints:
    """The constraints that a memory of earlier tasks sets, and their samples.

    Of each class or task that the memory holds, the samples that do not come from the current task
    make one constraint, or several, to which they are dealt out in turn, oldest first. Samples are
    fetched again only when those of their class or task have changed.

    Args:
        buffer: The memory.
        group_by: "task" or "class".
        n_groups: Number of constraints of each class or task, at least 1; fewer if it has fewer
            samples.
    """

    def __init__(self, buffer: SlotBuffer, group_by: GroupBy, n_groups: int) -> None:
        self.buffer = buffer
        self.group_by: GroupBy = group_by
        self.n_groups = n_groups
        self._origin: int | None = None
        self._chunks: Chunks = {}
        self._earlier: list[object] = []

    def chunks(self, origin: int, device: torch.device, max_samples: int) -> list[Chunk]:
        """Return the samples of all constraints, oldest class or task first.

        Args:
            origin: The current task.
            device: Where the samples shall lie.
            max_samples: Classes or tasks come together in a chunk up to this many samples; a larger
                one makes a chunk of its own.
        """
        if origin != self._origin:
            self._origin, self._chunks, self._earlier = origin, {}, []
        earlier = self._versions_of_earlier_tasks(origin)
        if not _same(earlier, self._earlier):
            self._chunks = self._fetched(origin, device, max_samples)
            self._earlier = earlier
        return [chunk for _, chunk in self._chunks.values()]

    def __getstate__(self) -> dict[str, Any]:
        # What can be fetched again need not be stored twice.
        return {**self.__dict__, "_chunks": {}, "_earlier": []}

    def _versions_of_earlier_tasks(self, origin: int) -> list[object]:
        versions = self.buffer.versions("task")
        return [versions[task] for task in self.buffer.groups("task") if task != origin]

    def _fetched(self, origin: int, device: torch.device, max_samples: int) -> Chunks:
        """Return all chunks, those whose classes or tasks have not changed as they were."""
        slots = self._slots(origin)
        chunks = {}
        for keys in _packed({key: len(members) for key, members in slots.items()}, max_samples):
            versions = [self.buffer.versions(self.group_by)[key] for key in keys]
            known = self._chunks.get(keys)
            if known and _same(known[0], versions):
                chunks[keys] = known
            else:
                groups = [group for key in keys for group in self._dealt(slots[key])]
                columns = self.buffer.fetch(np.array([s for group in groups for s in group]))
                x, y, t = (column.to(device) for column in columns)
                chunks[keys] = versions, Chunk(x, y, t, [len(group) for group in groups])
        return chunks

    def _slots(self, origin: int) -> dict[int, list[int]]:
        """Return the slots of each class or task whose samples are not of the current task."""
        groups = self.buffer.groups(self.group_by)
        if self.group_by == "task":
            return {task: slots for task, slots in groups.items() if task != origin}
        current = {*self.buffer.groups("task").get(origin, ())}
        earlier = {key: [s for s in slots if s not in current] for key, slots in groups.items()}
        return {key: slots for key, slots in earlier.items() if slots}

    def _dealt(self, slots: list[int]) -> list[list[int]]:
        n_groups = min(self.n_groups, len(slots))
        return [slots[first::n_groups] for first in range(n_groups)]


def _same(first: list[object], second: list[object]) -> bool:
    return len(first) == len(second) and all(map(is_, first, second))


def _packed(sizes: dict[int, int], limit: int) -> list[tuple[int, ...]]:
    """Put consecutive keys together as long as their sizes sum to at most `limit`."""
    packed: list[tuple[int, ...]] = []
    total = limit
    for key, size in sizes.items():
        total += size
        if packed and total <= limit:
            packed[-1] = (*packed[-1], key)
        else:
            packed.append((key,))
            total = size
    return packed
