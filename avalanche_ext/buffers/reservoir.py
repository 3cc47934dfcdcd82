"""A uniform sample of everything seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from avalanche_ext.buffers.base import NOT_STORED, SlotBuffer
from avalanche_ext.buffers.groups import GroupBy


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
