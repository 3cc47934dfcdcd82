"""Representations as rows: checks of their shapes, and their directions."""

from __future__ import annotations

from math import inf
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

_NO_LENGTH = 1e-6
"""A vector no longer than this has no direction."""


def check_rows(representations: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless representations are (B, H) and labels (B,)."""
    if representations.ndim != 2 or labels.shape != representations.shape[:1]:
        raise ValueError(
            f"representations must be (B, H) and labels (B,), but have the shapes "
            f"{(*representations.shape,)} and {(*labels.shape,)}"
        )


def check_option(name: str, value: str, options: Any) -> None:
    """Raise ValueError unless an argument has one of the values of a Literal."""
    if value not in get_args(options):
        known = ", ".join(map(repr, get_args(options)))
        raise ValueError(f"{name} is {value!r}, but must be one of {known}")


def directions(representations: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows scaled to length 1, (B, H), and their divisors, (B, 1).

    Rows without a direction are divided by infinity: they and their gradients are 0.
    """
    lengths = torch.linalg.vector_norm(representations, dim=1, keepdim=True)
    divisors = F.threshold(lengths, _NO_LENGTH, inf)
    return representations / divisors, divisors
