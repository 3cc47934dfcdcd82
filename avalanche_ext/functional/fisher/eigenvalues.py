"""How the eigenvalues of a spectrum fall."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FEWEST_FOR_A_FIT = 3


class GeometricDecay(NamedTuple):
    """The fit of log λ_i ≈ a + b i.

    Attributes:
        slope: b; each eigenvalue is about e^b times the one before.
        r_squared: The share of the variance of log λ_i that the line explains, at most 1.
    """

    slope: float
    r_squared: float


def geometric_decay(eigenvalues: Tensor) -> GeometricDecay | None:
    """Fit a straight line to log λ_i over i by least squares.

    Args:
        eigenvalues: λ, (k,), descending and positive.

    Returns:
        The fit; None for fewer than three eigenvalues, through which a line goes nearly always.
        Equal eigenvalues are explained without rest.
    """
    if len(eigenvalues) < _FEWEST_FOR_A_FIT:
        return None
    logs = eigenvalues.double().log()
    logs = logs - logs.mean()
    steps = torch.arange(len(logs), dtype=torch.float64, device=logs.device)
    steps -= steps.mean()
    slope = (steps @ logs) / (steps @ steps)
    total, rest = logs.square().sum(), (logs - slope * steps).square().sum()
    return GeometricDecay(float(slope), float(1 - rest / total) if total > 0 else 1.0)


def share_of_largest(eigenvalues: Tensor, n: int, trace: float) -> float:
    """Return the share of the trace in the `n` largest eigenvalues, or in all if there are fewer.

    Args:
        eigenvalues: λ, (k,), descending.
        n: How many.
        trace: The sum of all eigenvalues, also of those not given, > 0.
    """
    return float(eigenvalues[:n].double().sum()) / trace
