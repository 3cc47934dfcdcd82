"""The edits that a memory has undergone."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.buffers import SlotBuffer, Slots
from avalanche_ext.results.exhibits import Edits

_MOST_SHOWN = 10
_IMAGES = 4


class EditRecord:
    """Lengths of edits in the current experience, and samples as they were before their first.

    Args:
        buffer: The memory.
        keep_originals: Whether to keep samples as they were.
    """

    def __init__(self, buffer: SlotBuffer, keep_originals: bool) -> None:
        self.buffer = buffer
        self.keep_originals = keep_originals
        # By arrival: slots may be renumbered, and given to others.
        self._originals: dict[int, Tensor] = {}
        # They stay on the device until they are asked for, so that no iteration waits for it.
        self._norms: list[Tensor] = []
        self._iterations: list[int] = []
        self._first = 0

    def begin(self, iteration: int) -> None:
        """Forget the lengths of the experience before the one that begins with `iteration`."""
        self._norms, self._iterations, self._first = [], [], iteration
        held = {*self.buffer.notes(np.arange(len(self.buffer))).arrival}
        self._originals = {a: x for a, x in self._originals.items() if a in held}

    def note(self, slots: Slots, before: Tensor, after: Tensor, iteration: int) -> None:
        """Note an edit that is about to be written to `slots`, (B,), of samples (B, ...)."""
        self._norms.append((after - before).flatten(1).norm(dim=1).mean())
        self._iterations.append(iteration)
        if self.keep_originals:
            notes = self.buffer.notes(slots)
            for arrival, age, x in zip(notes.arrival, notes.n_replaced, before, strict=True):
                if age == 0:
                    self._originals[arrival] = x.clone()

    def norms(self) -> dict[int, float]:
        """Return the mean length ‖x′ − x‖₂ of an edit, of each iteration that had edits."""
        norms = torch.stack(self._norms).tolist() if self._norms else []
        return dict(zip(self._iterations, norms, strict=True))

    def series(self) -> list[float]:
        """Return the same of all iterations of the experience, nan where nothing was edited."""
        norms = self.norms()
        last = max(norms, default=self._first - 1)
        return [norms.get(i, math.nan) for i in range(self._first, last + 1)]

    def exhibit(self) -> Edits | None:
        """Return of each class the image edited most often, up to ten; None if none is kept."""
        slots = np.arange(len(self.buffer))
        notes = self.buffer.notes(slots)
        n_edits = np.array(notes.n_replaced, dtype=np.int64)
        is_known = np.array([arrival in self._originals for arrival in notes.arrival], dtype=bool)
        shown = is_known & (n_edits > 0)
        if not shown.any():
            return None
        x, y, _ = (column.cpu().numpy() for column in self.buffer.fetch(slots))
        if x.ndim != _IMAGES:
            return None
        by_class = [slots[shown & (y == label)] for label in np.unique(y[shown])]
        chosen = np.array([held[n_edits[held].argmax()] for held in by_class[:_MOST_SHOWN]])
        originals = [self._originals[notes.arrival[slot]] for slot in chosen.tolist()]
        return Edits(
            slot=chosen,
            label=y[chosen],
            n_edits=n_edits[chosen],
            original=torch.stack(originals).cpu().numpy(),
            edited=x[chosen],
        )
