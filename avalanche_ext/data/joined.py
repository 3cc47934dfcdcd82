"""Several samples as one, without a copy of them where they are large."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.data.samples import Lazy, Samples, SharedRows, held, rows_of

_LARGE = 2**28
"""Views are joined by copying them, unless the copy takes more bytes than this."""
_SMALL = 2**24
"""Rows of joined views are copied if the copy takes at most this many bytes."""


class Joined(Samples):
    """Rows of several samples one after another; each batch is read from the parts it falls into.

    This is slower than one tensor of all samples, which for fifty permutations of MNIST as floats
    would take 9 GB. As with `SharedRows`, rows that were taken before `own` was called do not see
    what is written to the samples afterwards.

    Args:
        parts: The samples, with equal shapes.
        sizes: Number of samples of each part.
        places: Rows of the parts' concatenation, (N,), int64.
        sample_bytes: Memory of one sample.
    """

    def __init__(
        self, parts: Sequence[Samples], sizes: Sequence[int], places: Tensor, sample_bytes: int
    ) -> None:
        self.parts = parts
        self.sizes = sizes
        self.places = places
        self.sample_bytes = sample_bytes
        self.depth = 1 + max(part.depth for part in parts)
        ends = [*accumulate(sizes)]
        self._starts = [0, *ends[:-1]]
        self._ends = torch.tensor(ends, device=places.device)
        self._owned: Tensor | None = None

    @property
    def is_view(self) -> bool:
        """Whether samples are still read from the parts."""
        return self._owned is None

    def read(self) -> Tensor:
        """Return all samples, which are not kept unless `own` was called."""
        return self._at(self.places) if self._owned is None else self._owned

    def own(self) -> Tensor:
        """Return all samples, and keep them for good, since the caller may write to them."""
        self._owned = self.read()
        return self._owned

    def rows(self, rows: Tensor | slice) -> Tensor:
        """Return copies of the samples of these rows; once `own` was called, views of a slice."""
        if self._owned is not None:
            return rows_of(self._owned, rows)
        return self._at(rows_of(self.places, rows))

    def one(self, index: int) -> Tensor:
        """Return one sample, (...)."""
        row = torch.tensor([range(len(self.places))[index]], device=self.places.device)
        return self.rows(row)[0]

    def taken(self, rows: Tensor) -> Samples:
        """Return the samples of these rows, of the same parts unless they are few."""
        if self._owned is not None or len(rows) * self.sample_bytes <= _SMALL:
            return Lazy(lambda: self.rows(rows), self)
        return Joined(self.parts, self.sizes, rows_of(self.places, rows), self.sample_bytes)

    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device."""
        if self._owned is not None:
            return Lazy(lambda: self.read().to(device), self)
        parts = [part.to(device) for part in self.parts]
        return Joined(parts, self.sizes, self.places.to(device), self.sample_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._owned is not None:
            return held, (self._owned.clone(),)
        # A part of which some rows are not used is pickled without them.
        used, places = torch.unique(self.places, return_inverse=True)
        counts = torch.bincount(self._numbers(used), minlength=len(self.parts)).tolist()
        parts = [
            part if count == size else part.taken(rows - start)
            for part, size, start, rows, count in zip(
                self.parts, self.sizes, self._starts, torch.split(used, counts), counts, strict=True
            )
            if count
        ]
        return Joined, (parts, [*filter(None, counts)], places, self.sample_bytes)

    def _numbers(self, places: Tensor) -> Tensor:
        """Return the part that each place of the concatenation falls into, (B,), int64."""
        return torch.bucketize(places.contiguous(), self._ends, right=True)

    def _at(self, places: Tensor) -> Tensor:
        """Return the samples at these places of the concatenation, (B, ...)."""
        numbers = self._numbers(places)
        order = numbers.argsort(stable=True)
        counts = torch.bincount(numbers, minlength=len(self.parts)).tolist()
        read = [
            part.rows(rows - start)
            for part, rows, start in zip(
                self.parts, torch.split(places[order], counts), self._starts, strict=True
            )
            if len(rows)
        ]
        in_order = torch.cat(read) if read else self.parts[0].rows(places)
        return torch.empty_like(in_order).index_copy_(0, order, in_order)


def joined(
    parts: Sequence[Samples], sizes: Sequence[int], device: torch.device | str = "cpu"
) -> Samples:
    """Return several samples as one.

    They are copied into one tensor when they are first read. If some of them are views of shared
    tensors and the copy would be large, the result is a view, too.

    Args:
        parts: The samples, with equal shapes.
        sizes: Number of samples of each part.
        device: Device of the parts.
    """
    views = [part for part in parts if isinstance(part, SharedRows | Joined) and part.is_view]
    sample_bytes = max((view.sample_bytes for view in views), default=0)
    if sum(sizes) * sample_bytes <= _LARGE:
        return Lazy(lambda: torch.cat([part.read() for part in parts]), *parts)
    flat: list[Samples] = []
    flat_sizes: list[int] = []
    places = []
    for part, size in zip(parts, sizes, strict=True):
        start = sum(flat_sizes)
        if isinstance(part, Joined) and part.is_view:
            # Chains, as Avalanche's buffers make them, do not grow deep.
            places.append(part.places + start)
            flat += part.parts
            flat_sizes += part.sizes
        else:
            places.append(torch.arange(start, start + size, device=device))
            flat.append(part)
            flat_sizes.append(size)
    return Joined(flat, flat_sizes, torch.cat(places), sample_bytes)
