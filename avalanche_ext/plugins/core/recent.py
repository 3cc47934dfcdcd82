"""The last rows of a stream."""

from __future__ import annotations

from collections import deque

import torch

from avalanche_ext.plugins.replay.memory import Columns


class RecentRows:
    """The last rows that a stream has brought, up to a number of them.

    Args:
        size: How many rows are kept, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._batches: deque[Columns] = deque()
        self._n_rows = 0

    def add(self, columns: Columns) -> None:
        """Take in x, y and t of a mini-batch, as copies, and forget what is too old."""
        x, y, t = (column.detach().clone() for column in columns)
        self._batches.append((x, y, t))
        self._n_rows += len(y)
        while self._n_rows - len(self._batches[0][1]) >= self.size:
            self._n_rows -= len(self._batches.popleft()[1])

    def columns(self) -> Columns:
        """Return x, y and t of all rows that are kept, oldest first."""
        x, y, t = (torch.cat(parts)[-self.size :] for parts in zip(*self._batches, strict=True))
        return x, y, t
