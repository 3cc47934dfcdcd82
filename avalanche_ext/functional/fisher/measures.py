"""Measures of a Fisher's eigenpairs: the decay of the eigenvalues, and the vectors' layers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.spectrum import FisherSpectrum
from avalanche_ext.functional.model.gradients import FlatLayout

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
        The fit, with r² = 1 for equal eigenvalues; None for fewer than three eigenvalues, since a
        line fits two of them exactly.
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
        n: How many of the largest eigenvalues.
        trace: The sum of all eigenvalues, including those not given, > 0.
    """
    return float(eigenvalues[:n].double().sum()) / trace


def effective_rank(eigenvalues: Tensor) -> float:
    """Return exp(−Σ_i p_i log p_i) with p = λ / Σλ, between 1 and the number of positive ones.

    Roy, Vetterli 2007, "The effective rank: a measure of effective dimensionality". It is 0 if no
    eigenvalue is positive.
    """
    positive = eigenvalues[eigenvalues > 0].double()
    if not len(positive):
        return 0.0
    return float(torch.special.entr(positive / positive.sum()).sum().exp())


def layer_mass(spectrum: FisherSpectrum, layout: FlatLayout) -> dict[str, float]:
    """Return each layer's share of the eigenvectors, Σ_k ‖P_ℓ v_k‖² / k, by the layer's name.

    P_ℓ takes the parameters of layer ℓ out of a vector. The shares sum to 1, or are 0 if k is 0.
    """
    return _shares(spectrum, layout, torch.ones_like(spectrum.eigenvalues))


def layer_curvature(spectrum: FisherSpectrum, layout: FlatLayout) -> dict[str, float]:
    """Return each layer's share of the curvature in the spectrum, Σ_k λ_k ‖P_ℓ v_k‖² / Σ_k λ_k.

    It is the layer's share of the trace of VᵀΛV. The shares sum to 1, or are 0 if k is 0.
    """
    return _shares(spectrum, layout, spectrum.eigenvalues)


def _shares(spectrum: FisherSpectrum, layout: FlatLayout, weights: Tensor) -> dict[str, float]:
    shares = dict.fromkeys(layout.layers, 0.0)
    weights = weights.double() / weights.double().sum()
    columns = torch.split(spectrum.eigenvectors, layout.numels, dim=1)
    for layer, part in zip(layout.layers, columns, strict=True):
        squares = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64).square()
        shares[layer] += float(weights @ squares)
    return shares
