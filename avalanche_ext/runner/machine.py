"""Errors of the machine, which may not occur in the next attempt."""

from __future__ import annotations

import re

import torch

_TYPES = (OSError, MemoryError, torch.OutOfMemoryError)
_WORDS = re.compile(
    r"(CUDA|cuDNN|cuBLAS|cuSOLVER|cuFFT|HIP|XPU|MPS|NCCL) (error|driver)"
    r"|(CUDNN|CUBLAS|CUSOLVER|CUFFT)_STATUS_"
    r"|out of memory|not enough memory|can't allocate memory|DataLoader worker",
    re.IGNORECASE,
)
"""Torch has no exception classes for most of these."""


def is_of_machine(error: BaseException) -> bool:
    """Return whether an error is caused by the machine, not by a run or its checkpoint.

    >>> is_of_machine(RuntimeError("CUDA error: unspecified launch failure"))
    True
    >>> is_of_machine(RuntimeError("expected all tensors on one device, found cuda:0 and cpu"))
    False
    """
    return isinstance(error, _TYPES) or (
        isinstance(error, RuntimeError) and bool(_WORDS.search(str(error)))
    )
