"""Memory shared by tensors: which part of it a state holds, and how it is moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def compact(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the same tensors, over memory without large unused parts.

    Tensors that overlap in memory still do: writing to one changes the others. Tensors that
    together fill their memory are returned unchanged, all others over copies.

    >>> large = torch.arange(1000.0)
    >>> one, other = compact([large[5:8], large[6:9]])
    >>> one[1] = -1
    >>> other, other.untyped_storage().nbytes()
    (tensor([-1.,  7.,  8.]), 16)
    """
    compacted = _with_one_storage(tensors)
    for (_, n_bytes), indices in _sharing(tensors).items():
        parts = _overlapping({index: _span(tensors[index]) for index in indices})
        if sum(stop - start for start, stop, _ in parts) < n_bytes:
            for start, stop, members in parts:
                copies = _copied([tensors[index] for index in members], start, stop)
                for index, copy in zip(members, copies, strict=True):
                    compacted[index] = copy
    return compacted


def plain(tensors: Sequence[Tensor]) -> list[Any]:
    """Return the same tensors, as bytes with their types where tensors of several types overlap.

    `torch.save` refuses such tensors. `typed` converts the bytes back to tensors.
    """
    plains: list[Any] = [*tensors]
    for (_, n_bytes), indices in _sharing(tensors).items():
        if len({tensors[index].dtype for index in indices}) > 1:
            for index in indices:
                each = tensors[index]
                name = str(each.dtype).removeprefix("torch.")
                form = each.storage_offset(), [*each.shape], [*each.stride()]
                plains[index] = [_bytes_of(each, 0, n_bytes), name, *form]
    return plains


def typed(content: Any) -> Tensor:
    """Return a tensor that `plain` has returned.

    Raises:
        TypeError: If it is none; AttributeError and ValueError if its parts are wrong.
        RuntimeError: If its memory is too small for it.
    """
    if isinstance(content, list):
        of_bytes, name, offset, shape, stride = content
        empty = torch.empty(0, dtype=getattr(torch, name), device=of_bytes.device)
        content = empty.set_(of_bytes.untyped_storage(), offset, shape, stride)
    if not isinstance(content, Tensor):
        raise TypeError(f"{type(content).__name__} is not a tensor")
    return content


class Mover:
    """Moves tensors to devices, so that those which share memory still do there."""

    def __init__(self) -> None:
        self._moved: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def on(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Return a tensor on a device, itself if it is already there."""
        if tensor.device.type == device.type and device.index in (None, tensor.device.index):
            return tensor
        storage = tensor.untyped_storage()
        key = storage.data_ptr(), device
        if key not in self._moved:
            there = _bytes_of(tensor, 0, storage.nbytes()).to(device)
            self._moved[key] = tensor, there  # With the tensor, so that its address is not reused.
        _, there = self._moved[key]
        return _view(there, tensor, int(tensor.storage_offset()))


def _with_one_storage(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the same tensors, with one storage object for the same memory, as `torch.save` needs.

    Each tensor that is made from one of numpy's arrays has an object of its own.
    """
    unified = [*tensors]
    for (_, n_bytes), indices in _sharing(tensors).items():
        first = _bytes_of(tensors[indices[0]], 0, n_bytes)
        for index in indices:
            each = tensors[index]
            if each.untyped_storage()._cdata != first.untyped_storage()._cdata:
                unified[index] = _view(first, each, int(each.storage_offset()))
    return unified


def _sharing(tensors: Sequence[Tensor]) -> dict[tuple[int, int], list[int]]:
    """Group tensors by their memory: its address and its size in bytes."""
    sharing: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        storage = tensor.untyped_storage()
        sharing[storage.data_ptr(), storage.nbytes()].append(index)
    return sharing


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return where a tensor begins and ends in its memory, in bytes."""
    size = tensor.element_size()
    start = int(tensor.storage_offset()) * size
    if not tensor.numel():
        return start, start
    last = sum(int((n - 1) * step) for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * size


def _overlapping(spans: dict[int, tuple[int, int]]) -> list[tuple[int, int, list[int]]]:
    """Join overlapping spans, each with its members."""
    joined: list[tuple[int, int, list[int]]] = []
    for index, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if joined and start < joined[-1][1]:
            first, last, members = joined[-1]
            joined[-1] = first, max(last, stop), [*members, index]
        else:
            joined.append((start, stop, [index]))
    return joined


def _copied(tensors: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
    """Return tensors over a copy of their bytes."""
    n_used = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if len(tensors) == 1 and n_used < stop - start:
        return [tensors[0].clone()]  # Such as a column.
    start -= start % max(tensor.element_size() for tensor in tensors)
    copy = _bytes_of(tensors[0], start, stop).clone()
    offsets = [int(each.storage_offset()) - start // each.element_size() for each in tensors]
    return [_view(copy, *pair) for pair in zip(tensors, offsets, strict=True)]


def _bytes_of(tensor: Tensor, start: int, stop: int) -> Tensor:
    of_bytes = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return of_bytes.set_(tensor.untyped_storage(), start, (stop - start,), (1,))


def _view(of_bytes: Tensor, like: Tensor, offset: int) -> Tensor:
    """Return a tensor of the same form over other memory."""
    empty = torch.empty(0, dtype=like.dtype, device=of_bytes.device)
    return empty.set_(of_bytes.untyped_storage(), offset, like.shape, like.stride())
