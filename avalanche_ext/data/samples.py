"""Samples of a dataset: a tensor computed when it is read, or rows of a shared tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from avalanche_ext.data.views import in_turn

_DEEPEST_CHAIN = 16
_SMALL = 2**26
"""Maximum size in bytes of a dataset whose samples are kept once computed."""
_ROOM = 2**28
"""Maximum size in bytes of all samples kept in addition to their shared tensor."""
_ROOM_OF_SLOW = 2**30
"""The same for samples that are slow to compute."""

Change = Callable[[Tensor], Tensor]
"""A function of a batch (B, ...) whose result for a sample does not depend on the batch."""


class Samples(ABC):
    """The samples of a dataset, (N, ...)."""

    depth: int = 0
    """Maximum number of other samples' reads that one read needs."""

    @abstractmethod
    def read(self) -> Tensor:
        """Return all samples, (N, ...), which must not be written to."""

    @abstractmethod
    def own(self) -> Tensor:
        """Return all samples, (N, ...); writing to the tensor changes the samples."""

    @abstractmethod
    def taken(self, rows: Tensor) -> Samples:
        """Return the samples of these rows, (B,), int64, to be read later."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device."""

    def rows(self, rows: Tensor | slice) -> Tensor:
        """Return a copy of the samples of these rows; for a slice, perhaps a view."""
        return rows_of(self.read(), rows)

    def one(self, index: int) -> Tensor:
        """Return one sample, (...)."""
        return self.read()[index]


class Lazy(Samples):
    """A tensor that is computed when it is first read.

    A chain of unread tensors keeps all their sources alive and is read recursively, so a chain of
    more than `_DEEPEST_CHAIN` is read immediately.

    Args:
        make: Computes the tensor.
        sources: The samples that `make` reads.
    """

    def __init__(self, make: Callable[[], Tensor], *sources: Samples) -> None:
        self._make: Callable[[], Tensor] | None = make
        self._value: Tensor | None = None
        self.depth = 1 + max((source.depth for source in sources), default=0)
        if self.depth > _DEEPEST_CHAIN:
            self.read()

    def read(self) -> Tensor:
        """Return the tensor."""
        if self._make is not None:
            self._value, self._make, self.depth = self._make(), None, 0
        assert self._value is not None
        return self._value

    def own(self) -> Tensor:
        """Return the tensor."""
        return self.read()

    def taken(self, rows: Tensor) -> Lazy:
        """Return rows of the tensor."""
        return Lazy(lambda: rows_of(self.read(), rows), self)

    def to(self, device: torch.device | str) -> Lazy:
        """Return the tensor on a device."""
        return Lazy(lambda: self.read().to(device), self)

    def __reduce__(self) -> tuple[Any, ...]:
        # A view into a larger tensor would be pickled with all of it.
        return held, (self.read().clone(),)


class Shared:
    """A tensor from which the samples of many datasets are computed.

    It counts the memory of those computed samples that are kept.

    Args:
        tensor: The shared tensor, (M, ...), such as the images of a data set; it is never written
            to.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._elsewhere: dict[torch.device, Shared] = {}
        self._kept: dict[int, ref[SharedRows]] = {}
        self._n_bytes = 0

    def to(self, device: torch.device | str) -> Shared:
        """Return the tensor on a device, always the same one."""
        place = torch.empty(0, device=device).device  # With its index: cuda becomes cuda:0.
        if place not in self._elsewhere:
            there = self.tensor.to(place)
            self._elsewhere[place] = self if there is self.tensor else Shared(there)
        return self._elsewhere[place]

    @property
    def is_small(self) -> bool:
        """Whether the whole tensor needs little memory as floats."""
        return 4 * self.tensor.numel() <= _SMALL

    def has_room(self, n_bytes: int) -> bool:
        """Return whether there is room for this many bytes of kept samples."""
        return n_bytes <= _SMALL and self._n_bytes + n_bytes <= _ROOM

    def keep(self, samples: SharedRows) -> None:
        """Register kept samples, and release the oldest ones if they take too much memory."""
        number, n_bytes = id(samples), samples.n_bytes
        room = _ROOM_OF_SLOW if samples.slow else _ROOM
        while self._kept and self._n_bytes + n_bytes > room:
            oldest = next(iter(self._kept.values()))()
            assert oldest is not None
            oldest.let_go()
        self._kept[number] = ref(samples, lambda _: self.forget(number, n_bytes))
        self._n_bytes += n_bytes

    def forget(self, number: int, n_bytes: int) -> None:
        """Register that samples are no longer kept."""
        if self._kept.pop(number, None) is not None:
            self._n_bytes -= n_bytes

    def __getstate__(self) -> dict[str, Any]:
        return {"tensor": self.tensor, "_elsewhere": {}, "_kept": {}, "_n_bytes": 0}


class SharedRows(Samples):
    """Rows of a shared tensor, changed whenever they are read.

    A batch is computed from its own rows alone. All samples are computed and kept if that is worth
    the memory: for small datasets while there is room, or if the changes are slow; and when a
    single sample is read, because more will follow. If the changes only convert to floats, samples
    are kept if the whole shared tensor is small. Samples that have been released are not kept
    again: otherwise datasets that are read in turns, and do not fit into memory together, would be
    recomputed at every turn.

    Args:
        shared: The tensor.
        indices: The rows, (N,), int64; all if None.
        changes: Changes of a batch of rows, in order. The first creates a new tensor; together they
            return float32 of the same shape.
        slow: Whether the changes take much longer than copying rows.
    """

    def __init__(
        self,
        shared: Shared,
        indices: Tensor | None,
        changes: Sequence[Change],
        slow: bool = False,
    ) -> None:
        self.shared = shared
        self.indices = indices
        self.changes = tuple(changes)
        self.slow = slow
        self._made: Tensor | None = None
        self._was_read = False
        self._had_to_go = False
        self._is_own = False

    def __len__(self) -> int:
        return len(self.shared.tensor if self.indices is None else self.indices)

    @property
    def is_view(self) -> bool:
        """Whether samples are still read from the shared tensor."""
        return not self._is_own

    @property
    def sample_bytes(self) -> int:
        """The memory of one sample once computed."""
        return 4 * self.shared.tensor[:1].numel()

    @property
    def n_bytes(self) -> int:
        """The memory of all samples once computed."""
        return len(self) * self.sample_bytes

    def changed(self, change: Change, slow: bool = False) -> SharedRows:
        """Return the samples after one more change."""
        return SharedRows(self.shared, self.indices, (*self.changes, change), self.slow or slow)

    def read(self) -> Tensor:
        """Return all samples, which are kept only if they were kept before."""
        if self._made is not None:
            return self._made
        held = self.shared.tensor
        held = held if self.indices is None else held.index_select(0, self.indices)
        return in_turn(self.changes, held)

    def own(self) -> Tensor:
        """Return all samples, and keep them for good, since the caller may write to them."""
        self._made, self._is_own = self.read(), True
        self.shared.forget(id(self), self.n_bytes)
        return self._made

    def rows(self, rows: Tensor | slice) -> Tensor:
        """Return copies of the samples of these rows, or views of them once `own` was called."""
        if self._is_own:
            return rows_of(self.read(), rows)
        if isinstance(rows, slice):
            if rows == slice(None) and self._made is None:
                return self.read()
            rows = torch.arange(len(self), device=self.shared.tensor.device)[rows]
        # Parts of an online stream are read once, as a whole.
        goes_on, self._was_read = self._was_read or len(rows) < len(self), True
        if self._made is None and goes_on and not self._had_to_go and self._is_worth_keeping:
            self._keep()
        if self._made is not None:
            return rows_of(self._made, rows)
        rows = rows if self.indices is None else self.indices.index_select(0, rows)
        return in_turn(self.changes, self.shared.tensor.index_select(0, rows))

    def one(self, index: int) -> Tensor:
        """Return one sample, (...)."""
        if self._made is None and self._had_to_go:
            row = torch.tensor([range(len(self))[index]], device=self.shared.tensor.device)
            return self.rows(row)[0]
        return (self._keep() if self._made is None else self._made)[index]

    def taken(self, rows: Tensor) -> Samples:
        """Return the samples of these rows, of the same shared tensor."""
        if self._is_own:
            return Lazy(lambda: rows_of(self.read(), rows), self)
        rows = rows if self.indices is None else self.indices.index_select(0, rows)
        return SharedRows(self.shared, rows, self.changes, self.slow)

    def to(self, device: torch.device | str) -> Samples:
        """Return the samples on a device, where they also share one tensor."""
        if self._is_own:
            return Lazy(lambda: self.read().to(device), self)
        shared = self.shared.to(device)
        if shared is self.shared:
            return self
        indices = None if self.indices is None else self.indices.to(device)
        return SharedRows(shared, indices, self.changes, self.slow)

    def let_go(self) -> None:
        """Discard the computed samples for good."""
        self._made, self._had_to_go = None, True
        self.shared.forget(id(self), self.n_bytes)

    @property
    def _is_worth_keeping(self) -> bool:
        if len(self.changes) == 1 and not self.slow and not self.shared.is_small:
            return False
        return self.slow or self.shared.has_room(self.n_bytes)

    def _keep(self) -> Tensor:
        self._made = self.read()
        self.shared.keep(self)
        return self._made

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_own:
            return held, (self.read().clone(),)
        shared = self.shared
        if self.indices is not None:
            # Without the rows of other datasets.
            shared = Shared(shared.tensor.index_select(0, self.indices))
        return SharedRows, (shared, None, self.changes, self.slow)


def held(x: Tensor) -> Lazy:
    """Return a tensor as samples."""
    return Lazy(lambda: x)


def rows_of(column: Tensor, rows: Tensor | slice) -> Tensor:
    """Return rows of a tensor: copies of listed rows, or a view of a slice."""
    # index_select is torch's fastest way to take rows.
    return column[rows] if isinstance(rows, slice) else column.index_select(0, rows)
