"""Samples of several datasets as one, without a copy of them where they are large."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avalanche_ext.data.samples import Lazy, Samples, SharedRows, rows_of

_LARGE = 2**28
"""Maximum size in bytes of shared samples that are computed as a whole to join them."""


class Joined(Samples):
    """Rows of several samples one after another; each batch is read from the parts it falls into.

    This is slower than one tensor of all samples, which for fifty permutations of MNIST as floats
    would take 9 GB.

    Args:
        parts: The samples, with equal shapes.
        places: Rows of the parts' concatenation, (N,), int64.
        ends: Number of rows up to the end of each part, (len(parts),), int64.
    """

    def __init__(self, parts: Sequence[Samples], places: Tensor, ends: Tensor) -> None:
        self.parts = parts
        self.places = places
        self.ends = ends
        self._owned: Tensor | None = None

    def read(self) -> Tensor:
        """Return all samples, which are not kept unless `own` was called."""
        return self._at(self.places) if self._owned is None else self._owned

    def own(self) -> Tensor:
        """Return all samples, and keep them for good, since the caller may write to them."""
        self._owned = self.read()
        return self._owned

    def rows(self, rows: Tensor | slice) -> Tensor:
        """Return copies of the samples of these rows, or views of them once `own` was called."""
        if self._owned is not None:
            return rows_of(self._owned, rows)
        return self._at(rows_of(self.places, rows))

    def one(self, index: int) -> Tensor:
        """Return one sample, (...)."""
        row = torch.tensor([range(len(self.places))[index]], device=self.places.device)
        return self.rows(row)[0]

    def taken(self, rows: Tensor) -> Samples:
        """Return the samples of these rows, of the same parts."""
        if self._owned is not None:
            return Lazy(lambda: rows_of(self.read(), rows), self)
        return Joined(self.parts, rows_of(self.places, rows), self.ends)

    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device."""
        if self._owned is not None:
            return Lazy(lambda: self.read().to(device), self)
        parts = [part.to(device) for part in self.parts]
        return Joined(parts, self.places.to(device), self.ends.to(device))

    def packed(self) -> Tensor:
        """Return a copy of all samples."""
        return self.read().clone()

    def _at(self, places: Tensor) -> Tensor:
        """Return the samples at these places of the concatenation, (B, ...)."""
        numbers = torch.bucketize(places.contiguous(), self.ends, right=True)
        order = numbers.argsort(stable=True)
        counts = torch.bincount(numbers, minlength=len(self.parts)).tolist()
        starts = [0, *self.ends[:-1].tolist()]
        read = [
            part.rows(rows - start)
            for part, rows, start in zip(
                self.parts, torch.split(places[order], counts), starts, strict=True
            )
            if len(rows)
        ]
        sorted_samples = torch.cat(read) if read else self.parts[0].rows(places)
        return torch.empty_like(sorted_samples).index_copy_(0, order, sorted_samples)


def joined(
    parts: Sequence[Samples], sizes: Sequence[int], device: torch.device | str = "cpu"
) -> Samples:
    """Return samples one after another.

    They are copied into one tensor when they are first read, unless they are rows of shared tensors
    that would take more than 256 MB as floats.

    Args:
        parts: The samples, with equal shapes.
        sizes: Number of samples of each.
        device: Their device.
    """
    n_bytes = sum(part.n_bytes for part in parts if isinstance(part, SharedRows))
    if n_bytes <= _LARGE and not any(isinstance(part, Joined) for part in parts):
        return Lazy(lambda: torch.cat([part.read() for part in parts]), *parts)
    ends = torch.tensor(sizes, device=device).cumsum(0)
    return Joined(parts, torch.arange(sum(sizes), device=device), ends)
