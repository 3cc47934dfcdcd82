"""Preallocated tensors with one row per slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SlotStorage:
    """Samples, labels and task labels, one row per slot.

    Rows `0 .. size - 1` are occupied. Tensors are allocated when the first sample shows its
    shape, dtype and device. A pickled storage holds the occupied rows only.

    Args:
        capacity: Number of slots.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.size = 0
        self.columns: list[Tensor] = []

    def write(self, slots: Sequence[int], columns: Sequence[Tensor]) -> None:
        """Write row i of every column (B, ...) to `slots[i]`; slots must be distinct."""
        if not self.columns:
            self.columns = [c.new_zeros((self.capacity, *c.shape[1:])) for c in columns]
        self.size = max(self.size, max(slots) + 1)
        indices = torch.tensor(slots, device=self.columns[0].device)
        for stored, new in zip(self.columns, columns, strict=True):
            stored.index_copy_(0, indices, new.detach())

    def gather(self, slots: Tensor) -> list[Tensor]:
        """Return copies of the rows at `slots`, (B,), of every column."""
        slots = slots.to(self.columns[0].device)
        return [column.index_select(0, slots) for column in self.columns]

    def occupied(self) -> list[Tensor]:
        """Return views of the occupied rows of every column."""
        return [column[: self.size] for column in self.columns]

    def reallocated(self, capacity: int, kept: Sequence[int]) -> SlotStorage:
        """Return a storage of another capacity, whose row i is what `kept[i]` holds here."""
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
