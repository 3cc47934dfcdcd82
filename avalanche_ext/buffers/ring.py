"""The most recent samples, balanced over classes or tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avalanche_ext.buffers.base import SlotBuffer
from avalanche_ext.buffers.groups import GroupBy


class RingBuffer(SlotBuffer):
    """The ring buffer of the DRL paper's Algorithm 1: the oldest of the largest group leaves.

    Every arriving sample is stored. When all slots are taken, it is counted to its group first;
    then the group with most samples loses its oldest one. Of several largest groups, the one
    whose oldest sample arrived first loses it.

    Args:
        max_size: Number of slots, at least one per group.
        balance: What is balanced: "class", or "task" for domain-incremental streams, where a
            task is the experience a sample came from.
        seed: Seed of the generator that `sample` draws from; what is stored does not depend on it.

    Raises:
        ValueError: If `max_size` is below 1, or when more groups arrive than there are slots.
    """

    def __init__(self, max_size: int, balance: GroupBy = "class", seed: int = 0) -> None:
        super().__init__(max_size, seed)
        self.balance: GroupBy = balance
        self.groups(balance)

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
            slot = size if size < self.max_size else self._oldest_of_largest(group)
            self._occupy(slot, row, groups)
            # `add` sets the arrival of the whole batch afterwards; ties within it need it now.
            self._notes.arrival[slot] = self.n_seen + row
            slots.append(slot)
        return slots

    def _oldest_of_largest(self, arriving_group: int | None = None) -> int:
        """Return the slot that is given up next, once a sample of `arriving_group` is counted."""
        members = self.groups(self.balance)
        sizes = {group: len(slots) for group, slots in members.items()}
        if arriving_group in sizes:
            sizes[arriving_group] += 1
        largest = max(sizes.values())
        oldest = [members[group][0] for group, size in sizes.items() if size == largest]
        return oldest[0] if len(oldest) == 1 else min(oldest, key=self._notes.arrival.__getitem__)

    def _keep(self, new_size: int) -> Sequence[int]:
        index = self._indexes[self.balance]
        for _ in range(len(self) - new_size):
            index.remove(self._oldest_of_largest())
        return sorted(slot for slots in index.slots.values() for slot in slots)
