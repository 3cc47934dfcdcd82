"""Memory of numpy's arrays: arrays that share it still do when their state is restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.format import descr_to_dtype, dtype_to_descr
from torch import Tensor

Array = np.ndarray[Any, Any]


def memory_of(array: Array) -> list[Any]:
    """Return the bytes that an array covers, as a tensor, and how it lies in them.

    The tensor is a view of the array's memory, like those of torch that share this memory. Only the
    memory of an array that cannot be written to is copied.

    Returns:
        The arguments of `over_memory`.
    """
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    flat = owner.ravel(order="K").view(np.uint8) if owner.size else np.zeros(0, np.uint8)
    if owner.size and not np.may_share_memory(flat, owner):  # It has gaps, and was copied.
        return memory_of(array.copy(order="K"))
    if not flat.flags.writeable:
        flat = flat.copy()
    begin = _span(owner)[0]
    first, last = _span(array)
    content = torch.from_numpy(flat)[first - begin : last - begin]
    layout = [*array.shape], [*array.strides], array.ctypes.data - first
    return [content, dtype_to_descr(array.dtype), *layout, array.flags.writeable]


def over_memory(
    content: Tensor,
    descr: Any,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int,
    writeable: bool,
) -> Array:
    """Return an array over the bytes that `memory_of` has returned.

    Args:
        content: The bytes.
        descr: The array's type, as in files of numpy.
        shape: Its shape.
        strides: Steps between its entries along each dimension, in bytes.
        offset: Where its first entry lies in the bytes.
        writeable: Whether it can be written to.
    """
    dtype = descr_to_dtype(descr)
    if not content.numel():
        return np.empty(shape, dtype)
    array: Array = np.ndarray(shape, dtype, content.numpy(), offset, strides)
    array.flags.writeable = writeable
    return array


def _span(array: Array) -> tuple[int, int]:
    """Return the addresses at which the memory that an array covers begins and ends."""
    begin = end = array.ctypes.data
    if not array.size:
        return begin, end
    for n, stride in zip(array.shape, array.strides, strict=True):
        begin, end = begin + min(0, (n - 1) * stride), end + max(0, (n - 1) * stride)
    return begin, end + array.itemsize
