"""Class labels that differ between heads."""

from __future__ import annotations

from torch import Tensor


def labels_by_head(y: Tensor, t: Tensor) -> Tensor:
    """Return labels, (B,), that differ between the classes of different heads.

    Args:
        y: Labels that each head counts from 0, (B,), int64.
        t: Task labels, which choose the head, (B,), int64.
    """
    # Cantor's pairing function: unlike t · C + y, it needs no number C of classes, which may grow.
    return (y + t) * (y + t + 1) // 2 + t
