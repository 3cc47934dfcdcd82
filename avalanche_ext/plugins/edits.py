"""What is known of the edits that a memory has undergone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avalanche_ext.buffers import SlotBuffer, Slots

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
        self._originals: dict[int, Tensor] = {}
        # They stay on the device until they are asked for, so that no iteration waits for it.
        self._norms: list[Tensor] = []
        self._iterations: list[int] = []
        self._first = 0

    def begin(self, iteration: int) -> None:
        """Forget the lengths of the experience before the one that begins with `iteration`."""
        self._norms, self._iterations, self._first = [], [], iteration

    def note(self, slots: Slots, before: Tensor, after: Tensor, iteration: int) -> None:
        """Note an edit that is about to be written to `slots`, (B,), of samples (B, ...)."""
        self._norms.append((after - before).flatten(1).norm(dim=1).mean())
        self._iterations.append(iteration)
        if self.keep_originals:
            ages = self.buffer.n_replaced(slots)
            for slot, age, x in zip(slots.tolist(), ages, before, strict=True):
                if age == 0:
                    self._originals[slot] = x.clone()

    def norms(self) -> dict[int, float]:
        """Return the mean length ‖x′ − x‖₂ of an edit, of each iteration that had edits."""
        return dict(zip(self._iterations, map(float, self._norms), strict=True))

    def series(self) -> list[float]:
        """Return the same of all iterations of the experience, nan where nothing was edited."""
        norms = self.norms()
        last = max(norms, default=self._first - 1)
        return [norms.get(i, math.nan) for i in range(self._first, last + 1)]

    def edits(self) -> dict[str, NDArray[Any]]:
        """Return of each class the image edited most often, up to ten; empty if none is kept.

        Returns:
            `slot`, `label` and `n_edits`, (k,); `original` and `edited`, (k, C, H, W).
        """
        held = np.arange(len(self.buffer))
        n_edits = np.array(self.buffer.n_replaced(held))
        if not self.keep_originals or not n_edits.any():
            return {}
        x, y, _ = (column.cpu().numpy() for column in self.buffer.fetch(held))
        if x.ndim != _IMAGES:
            return {}
        most = [held[y == label][n_edits[y == label].argmax()] for label in np.unique(y)]
        slots = np.array([slot for slot in most if n_edits[slot]][:_MOST_SHOWN])
        original = np.stack([self._originals[slot].cpu().numpy() for slot in slots.tolist()])
        return {
            "slot": slots,
            "label": y[slots],
            "n_edits": n_edits[slots],
            "original": original,
            "edited": x[slots],
        }
