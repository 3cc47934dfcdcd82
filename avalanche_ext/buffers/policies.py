"""Reservoir and ring buffers: which sample is evicted when no slot is free."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.buffers.base import NOT_STORED, SlotBuffer, positive
from avalanche_ext.buffers.slots import GroupBy, Slots
from avalanche_ext.data import Strategy
from avalanche_ext.validation import validated

Eviction = Literal["oldest", "random", "farthest", "nearest", "old and near"]
_BY_DISTANCE = ("farthest", "nearest", "old and near")
_WEIGHT_OF_AGE = 10
"""Weight of a rank by age relative to a rank by distance in "old and near"."""


class ReservoirBuffer(SlotBuffer):
    """Reservoir sampling (Vitter 1985, Algorithm R): holds each sample with the same probability.

    The n-th sample, counted from 0, takes slot j, drawn uniformly from 0 .. n, and is left out if
    there is no slot j. Deviation: GMED's code (Jin et al. 2021) draws j from 0 .. n - 1, which
    always keeps the first sample after the buffer has filled.

    A `resize` to more slots cannot bring back samples that were left out, so later samples are then
    held with a higher probability than earlier ones.
    """

    depends_on_order = False

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
    """The ring buffer of the DRL paper's Algorithm 1: the largest group loses its oldest sample.

    Every arriving sample is stored. When no slot is free, the arriving sample counts towards its
    group, and then the largest group loses a stored sample. If several groups are largest, the one
    whose oldest sample arrived first loses it.

    Args:
        max_size: Number of slots, at least one per group.
        balance: Which groups are balanced: "class", or "task" for domain-incremental streams,
            where a task is the experience a sample came from. If the model has a head for each
            task, the classes of different heads are different classes.
        seed: Seed of the generator that `sample` and random eviction draw from, and that permutes
            what `post_adapt` and `update_from_dataset` add.
        eviction: Which stored sample of the group is evicted: the "oldest", as in the paper; a
            "random" one; the one "farthest" from or "nearest" to their mean; or one that is "old
            and near", as for classes in a later version of the official code: the one with the
            smallest 10 a + d, where a is its rank by age (0 is the oldest) and d its rank by L1
            distance to the mean of all samples of the group that have arrived (0 is the nearest).

    Raises:
        ValueError: If `max_size` is below 1, or if more groups arrive than there are slots.
    """

    @validated
    def __init__(
        self,
        max_size: PositiveInt,
        balance: GroupBy = "class",
        seed: int = 0,
        eviction: Eviction = "oldest",
    ) -> None:
        super().__init__(max_size, seed)
        self.balance: GroupBy = balance
        self.eviction: Eviction = eviction
        self._arrived: dict[int, tuple[Tensor, int]] = {}
        """The sum and the number of all samples of each group, for "old and near"."""
        self.groups(balance)

    def add(self, x: Tensor, y: Tensor, t: Tensor, origin: int | Tensor | None = None) -> Slots:
        """Show the buffer a batch; see `SlotBuffer.add`."""
        if self.eviction not in _BY_DISTANCE:
            return super().add(x, y, t, origin)
        # Means change with each sample, so it must be stored before the next arrives.
        origins = torch.split(origin, 1) if isinstance(origin, Tensor) else [origin] * len(y)
        columns = (torch.split(column, 1) for column in (x, y, t))
        rows = zip(*columns, origins, strict=True)
        return np.concatenate([self._add_one(*row) for row in rows])

    def _add_one(self, x: Tensor, y: Tensor, t: Tensor, origin: int | Tensor | None) -> Slots:
        if self.eviction == "old and near":
            task = t if origin is None else origin
            group = self.classes(y, t)[0] if self.balance == "class" else int(task)
            total, n = self._arrived.get(group, (torch.zeros_like(x[0], dtype=torch.float64), 0))
            self._arrived[group] = total + x[0], n + 1
        return super().add(x, y, t, origin)

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        n_groups = len(self.groups(self.balance).keys() | {*groups[self.balance]})
        if n_groups > self.max_size:
            raise ValueError(
                f"RingBuffer with max_size {self.max_size} cannot hold one sample of each of "
                f"{n_groups} groups ({self.balance}): increase max_size to at least {n_groups}"
            )
        slots = []
        for row, group in enumerate(groups[self.balance]):
            size = len(self) + row
            slot = size if size < self.max_size else self._leaving(group)
            self._occupy(slot, row, groups)
            # `add` sets the arrivals of the batch afterwards, but ties within it need them now.
            self._notes.arrival[slot] = self.n_seen + row
            slots.append(slot)
        return slots

    def _leaving(self, arriving_group: int | None = None) -> int:
        """Return the slot to free next, counting one arriving sample of `arriving_group`."""
        group = self._largest(arriving_group)
        members = self.groups(self.balance)[group]
        if self.eviction == "oldest":
            return members[0]
        if self.eviction == "random":
            return members[int(self.rng.integers(len(members)))]
        held = self._storage.gather(torch.tensor(members))[0].flatten(1).double()
        if self.eviction == "old and near":
            return members[self._old_and_near(held, group)]
        distances = torch.linalg.vector_norm(held - held.mean(dim=0), dim=1)
        return members[
            int(distances.argmax() if self.eviction == "farthest" else distances.argmin())
        ]

    def _old_and_near(self, held: Tensor, group: int) -> int:
        total, n = self._arrived[group]
        distances = (held - total.flatten() / n).abs().sum(dim=1)
        places = torch.empty_like(distances)
        places[distances.argsort(stable=True)] = torch.arange(len(held)).to(places)
        return int((_WEIGHT_OF_AGE * torch.arange(len(held)).to(places) + places).argmin())

    def _largest(self, arriving_group: int | None) -> int:
        """Return the group that loses a sample."""
        members = self.groups(self.balance)
        sizes = {group: len(slots) for group, slots in members.items()}
        if arriving_group in sizes:
            sizes[arriving_group] += 1
        largest = max(sizes.values())
        ties = [group for group, size in sizes.items() if size == largest]
        return min(ties, key=lambda group: self._notes.arrival[members[group][0]])

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain data."""
        return {**super().state_dict(), "arrived": {**self._arrived}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        super().load_state_dict(state)
        self._arrived = {**state["arrived"]}

    def _clear(self) -> None:
        super()._clear()
        self._arrived = {}

    def _keep(self, new_size: int) -> Sequence[int]:
        index = self._indexes[self.balance]
        for _ in range(len(self) - new_size):
            index.remove(self._leaving())
        return sorted(slot for slots in index.slots.values() for slot in slots)


class _LastOfEach(SlotBuffer):
    """The last samples of each group, that is of samples that agree in all of `_by`."""

    _by: ClassVar[tuple[GroupBy, ...]]
    _groups_are: ClassVar[str]

    def __init__(self, size_per_group: int, seed: int) -> None:
        super().__init__(size_per_group, seed)
        for by in self._by:
            self.groups(by)

    @cached_property
    def _members(self) -> defaultdict[tuple[int, ...], list[int]]:
        """The slots of each group, oldest first."""
        group_of = [
            {slot: group for group, slots in self.groups(by).items() for slot in slots}
            for by in self._by
        ]
        members = defaultdict[tuple[int, ...], list[int]](list)
        for slot in sorted(range(len(self)), key=self._notes.arrival.__getitem__):
            members[tuple(of[slot] for of in group_of)].append(slot)
        return members

    @property
    def _size_per_group(self) -> int:
        return self.max_size // max(1, len(self._members))

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        size_per_group, size, slots = self._size_per_group, len(self), []
        for row, group in enumerate(zip(*(groups[by] for by in self._by), strict=True)):
            held = self._members[group]
            if len(held) < size_per_group:
                slot, size = size, size + 1
            else:
                slot = held.pop(0)
            held.append(slot)
            self._occupy(slot, row, groups)
            slots.append(slot)
        needed = size_per_group * max(1, len(self._members))
        if needed > self.max_size:
            # Not by `_reallocate`, since the indexes already contain the arriving samples.
            self._storage = self._storage.reallocated(needed, range(len(self)))
            self._notes = self._notes.reallocated(needed, range(self.max_size))
            self.max_size = needed
        return slots

    def resize(self, strategy: Strategy, new_size: int) -> None:
        """Divide `new_size` slots equally among the groups seen; each keeps its last samples."""
        n = max(1, len(self._members))
        super().resize(strategy, n * positive(f"new_size / {n} {self._groups_are}", new_size // n))

    def _keep(self, new_size: int) -> Sequence[int]:
        n_last = new_size // max(1, len(self._members))
        return sorted(slot for slots in self._members.values() for slot in slots[-n_last:])

    def _clear(self) -> None:
        self.max_size = self._size_per_group
        super()._clear()

    def _refresh(self) -> None:
        super()._refresh()
        self.__dict__.pop("_members", None)


class TaskBuffer(_LastOfEach):
    """GEM's episodic memory: the last samples of each task (Lopez-Paz and Ranzato 2017).

    A task is the experience a sample came from. Each new task adds slots, so `max_size` is the size
    per task times the number of tasks seen (at least one). Whole experiences from Avalanche's
    plugins arrive in random order, so their last samples are a random subset.

    Args:
        size_per_task: Number of samples held of each task, at least 1.
        seed: Seed of the generator that `sample` draws from, and that permutes what `post_adapt`
            and `update_from_dataset` add; it has no influence on which samples `add` stores.

    Raises:
        ValueError: If `size_per_task` is below 1.
    """

    _by = ("task",)
    _groups_are = "tasks"

    @validated
    def __init__(self, size_per_task: PositiveInt, seed: int = 0) -> None:
        super().__init__(size_per_task, seed)

    @property
    def size_per_task(self) -> int:
        """Number of samples held of each task."""
        return self._size_per_group


class TaskClassBuffer(_LastOfEach):
    """HAL's episodic memory: the last samples of each class of each task (Chaudhry et al. 2021).

    A task is the experience a sample came from. Each new class of a task adds slots, so `max_size`
    is the size per class times the number of classes seen in tasks (at least one).

    Args:
        size_per_class: Number of samples held of each class of each task, at least 1.
        seed: Seed of the generator, as in `TaskBuffer`.

    Raises:
        ValueError: If `size_per_class` is below 1.
    """

    _by = ("task", "class")
    _groups_are = "classes of tasks"

    @validated
    def __init__(self, size_per_class: PositiveInt, seed: int = 0) -> None:
        super().__init__(size_per_class, seed)

    @property
    def size_per_class(self) -> int:
        """Number of samples held of each class of each task."""
        return self._size_per_group
