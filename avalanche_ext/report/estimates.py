"""A mean over runs, with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DECIMALS = 12
"""Accuracies are ratios of counts: beyond these decimals they differ only by rounding."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` values and their sample standard deviation (None for a single value)."""

    mean: float
    std: float | None
    n: int

    @property
    def standard_error(self) -> float | None:
        """The standard deviation of the mean, std / √n."""
        return None if self.std is None else self.std / self.n**0.5


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and sample standard deviation (n - 1 in the denominator); None for no values."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), std, len(values))
