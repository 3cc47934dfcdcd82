"""The content of a buffer's slots, and the index of slots by class or task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Slots = npt.NDArray[np.int64]
GroupBy = Literal["class", "task"]
N_COLUMNS = 3
"""Number of columns without logits: samples, labels and task labels."""


class SlotStorage:
    """Samples, labels, task labels and DER's logits, as tensors with one row per slot.

    Rows `0 .. size - 1` are occupied. The first sample written sets the shape, dtype and device of
    the tensors. A pickled storage contains only the occupied rows.

    Args:
        capacity: Number of slots.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.columns: list[Tensor] = []

    def write(self, slots: Sequence[int], columns: Sequence[Tensor]) -> None:
        """Write row i of every column (B, ...) to `slots[i]`; slots must be distinct.

        If logits are stored but not given, those of `slots` become NaN.
        """
        if not self.columns:
            self.columns = [c.new_zeros((self.capacity, *c.shape[1:])) for c in columns]
        self.size = max(self.size, max(slots) + 1)
        indices = torch.tensor(slots, device=self.columns[0].device)
        for stored, new in zip(self.columns, columns, strict=False):
            stored.index_copy_(0, indices, new.detach().to(stored))
        for logits in self.columns[len(columns) :]:
            logits.index_fill_(0, indices, torch.nan)

    def write_logits(self, slots: Sequence[int], logits: Tensor) -> None:
        """Write row i of `logits`, (B, C), to occupied `slots[i]`.

        Raises:
            ValueError: If logits of another length are stored.
        """
        if len(self.columns) == N_COLUMNS:
            self.columns.append(logits.new_full((self.capacity, logits.shape[1]), torch.nan))
        stored = self.columns[N_COLUMNS]
        if stored.shape[1] != logits.shape[1]:
            raise ValueError(
                f"the model has {logits.shape[1]} outputs, but the buffer holds logits of "
                f"{stored.shape[1]}: give DER a model that has all its outputs from the start"
            )
        indices = torch.tensor(slots, device=stored.device)
        stored.index_copy_(0, indices, logits.to(stored))

    def overwrite(self, slots: Slots, samples: Tensor) -> None:
        """Replace the samples, but not the labels, of distinct occupied `slots`, (B,)."""
        stored = self.columns[0]
        indices = torch.from_numpy(slots).to(stored.device)
        stored.index_copy_(0, indices, samples.detach().to(stored))

    def gather(self, slots: Tensor) -> list[Tensor]:
        """Return copies of the rows at `slots`, (B,), of every column."""
        slots = slots.to(self.columns[0].device)
        return [column.index_select(0, slots) for column in self.columns]

    def occupied(self) -> list[Tensor]:
        """Return views of the occupied rows of every column."""
        return [column[: self.size] for column in self.columns]

    def reallocated(self, capacity: int, kept: Sequence[int]) -> SlotStorage:
        """Return a storage of another capacity whose row i holds a copy of slot `kept[i]`."""
        storage = SlotStorage(capacity)
        if kept:
            storage.write(range(len(kept)), self.gather(torch.tensor(kept)))
        return storage

    def __getstate__(self) -> dict[str, Any]:
        return {"capacity": self.capacity, "columns": [c.clone() for c in self.occupied()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.capacity, self.size, self.columns = state["capacity"], 0, []
        if state["columns"]:
            self.write(range(len(state["columns"][0])), state["columns"])


@dataclass
class SlotNotes:
    """Facts about the sample in each slot, one list entry per slot.

    Attributes:
        origin: Index of the experience it came from; negative for samples of a dataset that
            belongs to none.
        arrival: Number of samples that arrived before it; in a `PolicyBuffer`, its place in the
            policy's buffer.
        n_replaced: How often it was overwritten by `SlotBuffer.replace` since it was added.
    """

    origin: list[int] = field(default_factory=list)
    arrival: list[int] = field(default_factory=list)
    n_replaced: list[int] = field(default_factory=list)

    def reallocated(self, capacity: int, kept: Sequence[int]) -> SlotNotes:
        """Return notes for another capacity whose entry i is that of slot `kept[i]`."""
        empty = [0] * (capacity - len(kept))
        columns = [getattr(self, column.name) for column in fields(self)]
        return SlotNotes(*([column[slot] for slot in kept] + empty for column in columns))


class GroupIndex:
    """The slots of each group (class or task), oldest sample first.

    Adding a slot is O(1); removing one is linear in the size of its group.

    Attributes:
        slots: The slots of each group that has any.
        versions: An object for each group that has ever had slots; a new object replaces it
            whenever the group's samples change.

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
        """Record that `slot` no longer holds its sample; an empty slot is left alone."""
        group = self._group_of.pop(slot, None)
        if group is not None:
            members = self.slots[group]
            members.remove(slot)
            self.versions[group] = object()
            if not members:
                del self.slots[group]

    def touch(self, slot: int) -> None:
        """Record that the sample in `slot` was changed."""
        self.versions[self._group_of[slot]] = object()
