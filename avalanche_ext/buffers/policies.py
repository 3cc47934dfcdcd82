"""Which sample leaves a full buffer: at random, the oldest of a group, the oldest of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.buffers.base import NOT_STORED, SlotBuffer, positive
from avalanche_ext.buffers.slots import GroupBy, Slots

Eviction = Literal["oldest", "random", "farthest", "nearest"]


class ReservoirBuffer(SlotBuffer):
    """Reservoir sampling (Vitter 1985, Algorithm R): every sample seen is held equally likely.

    The n-th sample, counted from 0, takes slot j drawn uniformly from 0 .. n, and is left out if
    there is no slot j. GMED's code (Jin et al. 2021) draws j from 0 .. n - 1, by which the
    first sample after the buffer has filled is always kept; this is not followed.

    After a `resize` to more slots, which cannot bring back what was left out, later samples are
    held more likely than earlier ones.
    """

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        size = len(self)
        n_filling = min(n, self.max_size - size)
        slots = [*range(size, size + n_filling)]
        if n_filling < n:
            highs = np.arange(self.n_seen + n_filling, self.n_seen + n) + 1
            drawn = self.rng.integers(0, highs).tolist()
            slots += [slot if slot < self.max_size else NOT_STORED for slot in drawn]
        if groups:
            for row, slot in enumerate(slots):
                if slot != NOT_STORED:
                    self._occupy(slot, row, groups)
        return slots

    def _keep(self, new_size: int) -> Sequence[int]:
        size = len(self)
        if size <= new_size:
            return range(size)
        kept: list[int] = np.sort(self.rng.choice(size, new_size, replace=False)).tolist()
        return kept


class RingBuffer(SlotBuffer):
    """The ring buffer of the DRL paper's Algorithm 1: the oldest of the largest group leaves.

    Every arriving sample is stored. When all slots are taken, it is counted to its group first;
    then the group with most samples loses one. Of several largest groups, the one whose oldest
    sample arrived first loses it.

    Args:
        max_size: Number of slots, at least one per group.
        balance: What is balanced: "class", or "task" for domain-incremental streams, where a
            task is the experience a sample came from.
        seed: Seed of the generator that `sample` and random eviction draw from.
        eviction: Which stored sample of the group leaves: the "oldest", as in the paper, a
            "random" one, or the one "farthest" from or "nearest" to their mean.

    Raises:
        ValueError: If `max_size` is below 1, or when more groups arrive than there are slots.
    """

    def __init__(
        self,
        max_size: int,
        balance: GroupBy = "class",
        seed: int = 0,
        eviction: Eviction = "oldest",
    ) -> None:
        super().__init__(max_size, seed)
        self.balance: GroupBy = balance
        self.eviction: Eviction = eviction
        self.groups(balance)

    def add(self, x: Tensor, y: Tensor, t: Tensor, origin: int | Tensor | None = None) -> Slots:
        """Show the buffer a batch, as any `SlotBuffer`."""
        if self.eviction not in ("farthest", "nearest") or len(y) < 2:
            return super().add(x, y, t, origin)
        # Means are of what is stored, so that each sample must be before the next one's turn.
        origins = torch.split(origin, 1) if isinstance(origin, Tensor) else [origin] * len(y)
        columns = (torch.split(column, 1) for column in (x, y, t))
        rows = zip(*columns, origins, strict=True)
        return np.concatenate([super(RingBuffer, self).add(*row) for row in rows])

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        n_groups = len(self.groups(self.balance).keys() | {*groups[self.balance]})
        if n_groups > self.max_size:
            raise ValueError(
                f"a RingBuffer of max_size {self.max_size} cannot hold one sample of each of "
                f"{n_groups} groups ({self.balance}): max_size must be larger"
            )
        slots = []
        for row, group in enumerate(groups[self.balance]):
            size = len(self) + row
            slot = size if size < self.max_size else self._leaving(group)
            self._occupy(slot, row, groups)
            # `add` sets the arrival of the whole batch afterwards; ties within it need it now.
            self._notes.arrival[slot] = self.n_seen + row
            slots.append(slot)
        return slots

    def _leaving(self, arriving_group: int | None = None) -> int:
        """Return the slot that is given up next, once a sample of `arriving_group` is counted."""
        members = self._largest(arriving_group)
        if self.eviction == "oldest":
            return members[0]
        if self.eviction == "random":
            return members[int(self.rng.integers(len(members)))]
        held = self._storage.gather(torch.tensor(members))[0].flatten(1).double()
        distances = torch.linalg.vector_norm(held - held.mean(dim=0), dim=1)
        return members[
            int(distances.argmax() if self.eviction == "farthest" else distances.argmin())
        ]

    def _largest(self, arriving_group: int | None) -> list[int]:
        """Return the slots of the group that loses a sample, oldest first."""
        members = self.groups(self.balance)
        sizes = {group: len(slots) for group, slots in members.items()}
        if arriving_group in sizes:
            sizes[arriving_group] += 1
        largest = max(sizes.values())
        ties = [members[group] for group, size in sizes.items() if size == largest]
        if len(ties) == 1:
            return ties[0]
        return min(ties, key=lambda slots: self._notes.arrival[slots[0]])

    def _keep(self, new_size: int) -> Sequence[int]:
        index = self._indexes[self.balance]
        for _ in range(len(self) - new_size):
            index.remove(self._leaving())
        return sorted(slot for slots in index.slots.values() for slot in slots)


class TaskBuffer(SlotBuffer):
    """GEM's episodic memory: a ring of fixed size for each task (Lopez-Paz and Ranzato 2017).

    A task is the experience a sample came from. Each new task adds slots of its own, so that
    `max_size` is the size per task times the number of tasks seen, at least one.

    Args:
        size_per_task: Samples held of each task, its last ones, at least 1.
        seed: Seed of the generator that `sample` draws from; what is stored does not depend on it.

    Raises:
        ValueError: If `size_per_task` is below 1.
    """

    def __init__(self, size_per_task: int, seed: int = 0) -> None:
        super().__init__(size_per_task, seed)
        self.size_per_task = size_per_task
        self.groups("task")

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        members, size, slots = self.groups("task"), len(self), []
        for row, task in enumerate(groups["task"]):
            held = members.get(task, [])
            if len(held) < self.size_per_task:
                slot, size = size, size + 1
            else:
                slot = held[0]
            self._occupy(slot, row, groups)
            slots.append(slot)
        needed = self.size_per_task * max(1, len(members))
        if needed > self.max_size:
            self._reserve(needed)
        return slots

    def _reserve(self, needed: int) -> None:
        """Add slots, without rebuilding the indexes, which know the arriving samples already."""
        self._storage = self._storage.reallocated(needed, range(len(self)))
        self._notes = self._notes.reallocated(needed, range(self.max_size))
        self.max_size = needed

    def resize(self, strategy: Any, new_size: int) -> None:
        """Divide `new_size` slots equally among the tasks seen; each keeps its last samples."""
        n_tasks = max(1, len(self.groups("task")))
        self.size_per_task = positive(f"new_size / {n_tasks} tasks", new_size // n_tasks)
        super().resize(strategy, self.size_per_task * n_tasks)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on later, as tensors and plain data."""
        return {**super().state_dict(), "size_per_task": self.size_per_task}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state that `state_dict` returned."""
        self.size_per_task = state["size_per_task"]
        super().load_state_dict(state)

    def _keep(self, new_size: int) -> Sequence[int]:
        members = self.groups("task").values()
        return sorted(slot for slots in members for slot in slots[-self.size_per_task :])
