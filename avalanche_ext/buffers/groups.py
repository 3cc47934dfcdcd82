"""Which slots of a buffer hold the samples of each class or task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

GroupBy = Literal["class", "task"]


class GroupIndex:
    """The slots of each group, oldest sample first.

    Adding a slot is O(1); removing one shifts the slots of its group that came later.

    Attributes:
        slots: The slots of each group that has any.
        versions: For each group that has had any an object that is replaced by another one whenever
            its samples change.

    Examples:
        >>> index = GroupIndex([(0, 7), (1, 3), (2, 7)])
        >>> index.remove(0)
        >>> index.add(0, 3)
        >>> index.slots
        {7: [2], 3: [1, 0]}
    """

    def __init__(self, members: Iterable[tuple[int, int]] = ()) -> None:
        """Index `(slot, group)` pairs given in order of arrival."""
        self.slots: dict[int, list[int]] = {}
        self.versions: dict[int, object] = {}
        self._group_of: dict[int, int] = {}
        for slot, group in members:
            self.add(slot, group)

    def add(self, slot: int, group: int) -> None:
        """Record that `slot` now holds the newest sample of `group`."""
        self.slots.setdefault(group, []).append(slot)
        self.versions[group] = object()
        self._group_of[slot] = group

    def remove(self, slot: int) -> None:
        """Forget what `slot` holds; a slot that holds nothing is left alone."""
        group = self._group_of.pop(slot, None)
        if group is not None:
            members = self.slots[group]
            members.remove(slot)
            self.versions[group] = object()
            if not members:
                del self.slots[group]

    def touch(self, slot: int) -> None:
        """Record that what `slot` holds has been changed."""
        self.versions[self._group_of[slot]] = object()
