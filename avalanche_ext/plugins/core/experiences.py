"""Samples of a stream: the end of an experience, draws from one, and the most recent rows."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor

from avalanche_ext.data import fetch_all, origin_experience, origin_index


class Endings:
    """Finds out when an experience of the original stream has ended.

    On a plain stream each experience ends when it has been learned. On an online stream, which cuts
    experiences into parts, an experience ends with its last part: the part marked as last, or the
    last of the announced number of parts. A part that mixes several experiences counts as an
    experience by itself.

    A part that is learned several times counts once. So the last part ends its experience only when
    it is first learned; any other part learned after that begins the experience again. Parts are
    identified by their numbers in the stream. Without them, as when Avalanche's
    `FixedSizeExperienceSplitter` is used without a stream, each call counts as another part.

    Attributes:
        is_over: Whether the experience last given to `ends` ended at that call or earlier.
    """

    def __init__(self) -> None:
        self.is_over = True
        self._origin: int | None = None
        self._parts: set[int] = set()
        """Numbers of the parts learned; only that of the last once the experience is over."""

    def ends(self, experience: Any) -> bool:
        """Return whether the original experience has now ended; call it once for each experience.

        Args:
            experience: The experience, or part of one, that has just been learned.
        """
        part = experience.logging()
        if not isinstance(part, OnlineCLExperience) or part.origin_experience is None:
            self.is_over, self._origin, self._parts = True, None, set()
            return True
        origin, number = origin_index(part), _number(part)
        is_known = origin == self._origin and number in self._parts
        if is_known and self.is_over:
            return False
        if origin != self._origin or self.is_over or (part.is_first_subexp and not is_known):
            self._origin, self._parts = origin, set()
        self._parts.add(len(self._parts) if number is None else number)
        self.is_over = bool(part.is_last_subexp) or len(self._parts) == part.sub_stream_length
        if self.is_over:
            self._parts = set() if number is None else {number}
        return self.is_over


def _number(part: Any) -> int | None:
    """Return the number of a part in its stream, None if it has none."""
    # Avalanche's public attribute fails if there is none.
    number: int | None = part._current_experience
    return number


def draw_samples(
    experience: Any, n: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw `n` samples x, y and t of an experience, or take all if it has fewer.

    Samples are drawn without replacement, keep the order of the data set and are not augmented. On
    an online stream they come from the whole original experience.

    Args:
        experience: The experience, or a part of one.
        n: Number of samples.
        generator: Generator of the draw, on the CPU.
        device: Device of the returned tensors.
    """
    dataset = origin_experience(experience).dataset.eval()
    rows = torch.randperm(len(dataset), generator=generator)[:n].sort().values
    x, y, t = fetch_all(dataset.subset(rows.tolist()))
    return x.to(device), y.to(device), t.to(device)


class RecentRows:
    """The most recent rows of a stream.

    Args:
        size: Number of rows to keep, at least 1.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._batches: deque[tuple[Tensor, Tensor, Tensor]] = deque()
        self._n_rows = 0

    def add(self, columns: tuple[Tensor, Tensor, Tensor]) -> None:
        """Add copies of a mini-batch's x, y and t, and forget the oldest rows."""
        x, y, t = (column.detach().clone() for column in columns)
        self._batches.append((x, y, t))
        self._n_rows += len(y)
        while self._n_rows - len(self._batches[0][1]) >= self.size:
            self._n_rows -= len(self._batches.popleft()[1])

    def columns(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, y and t of all kept rows, oldest first."""
        x, y, t = (torch.cat(parts)[-self.size :] for parts in zip(*self._batches, strict=True))
        return x, y, t
