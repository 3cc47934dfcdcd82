"""Samples of a stream: whether an experience is over, draws from it, and the last rows."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor

from avalanche_ext.data import fetch_all, origin_experience, origin_index
from avalanche_ext.plugins.core.composition import Columns


class Endings:
    """Tells with which experience one of the original stream ends.

    An experience that was cut from no other ends with itself. One that an online stream was cut
    from ends with as many parts as the stream says it has, or with that which says it is the last.
    """

    def __init__(self) -> None:
        self._origin: int | None = None
        self._n_parts = 0

    def ends(self, experience: Any) -> bool:
        """Return whether the origin experience has ended; to be asked once after each experience.

        Args:
            experience: What has just been learned.
        """
        part = experience.logging()
        if not isinstance(part, OnlineCLExperience):
            return True
        origin = origin_index(part)
        goes_on = origin == self._origin and not part.is_first_subexp
        self._n_parts = 1 + (self._n_parts if goes_on else 0)
        has_ended = bool(part.is_last_subexp) or self._n_parts == part.sub_stream_length
        self._origin = None if has_ended else origin
        return has_ended


def draw_samples(
    experience: Any, n: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and t of `n` samples of an experience, all of them if it has fewer.

    They are drawn without replacement, in the order of the data set, and are not augmented; on an
    online stream from all of the experience that it was cut from.

    Args:
        experience: Where they come from.
        n: How many.
        generator: From which is drawn, on the CPU.
        device: Where they shall lie.
    """
    dataset = origin_experience(experience).dataset.eval()
    rows = torch.randperm(len(dataset), generator=generator)[:n].sort().values
    x, y, t = fetch_all(dataset.subset(rows.tolist()))
    return x.to(device), y.to(device), t.to(device)


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
