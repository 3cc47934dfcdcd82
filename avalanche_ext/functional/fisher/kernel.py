"""Eigenpairs of GᵀG for M gradients, the rows of G, from their inner products G Gᵀ, (M, M)."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.lanczos import largest_eigenpairs, without_rounding
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample.rules import SampleGradients

# Above this share of all eigenpairs, a dense decomposition is faster than Lanczos.
_DENSE_SHARE = 0.25


def gradient_kernel(gradients: list[SampleGradients]) -> Tensor:
    """Return G Gᵀ, (M, M)."""
    kernel = gradients[0].kernel()
    for layer in gradients[1:]:
        kernel += layer.kernel()
    return kernel


def kernel_eigenpairs(
    gradients: list[SampleGradients], layout: FlatLayout, rank: int
) -> tuple[Tensor, Tensor, float]:
    """Return the largest eigenpairs of GᵀG, (P, P), computed from those of G Gᵀ.

    G Gᵀ u = μ u gives v = Gᵀu / √μ, which has length 1 since ‖Gᵀu‖² = uᵀG Gᵀu = μ.

    Args:
        gradients: The M rows of G, by layer.
        layout: The parameters, in the order of v.
        rank: How many eigenpairs, at least 1.

    Returns:
        Eigenvalues μ, (k,), descending and positive; v, (k, P), orthonormal rows; and the trace. If
        the trace is not finite, there are no pairs.
    """
    values, weights, trace = _dual_pairs(gradient_kernel(gradients), rank)
    vectors = weights.new_zeros(len(values), sum(layout.numels))
    places = dict(zip(layout.parameters, torch.split(vectors, layout.numels, dim=1), strict=True))
    if not len(values):
        return values, vectors, trace
    weights /= values.sqrt()[:, None]
    for layer in gradients:
        for p, lifted in zip(layer.parameters, layer.lift(weights), strict=True):
            places[p].copy_(lifted.flatten(1))
    _make_orthonormal(vectors, layout)
    return values, vectors, trace


def _dual_pairs(kernel: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return the largest positive eigenvalues of G Gᵀ, (k,), u, (k, M), and tr G Gᵀ.

    It overwrites the kernel.
    """
    trace = float(kernel.diagonal().double().sum())
    if trace == 0 or not isfinite(trace):
        return kernel.new_zeros(0), kernel, trace
    # Scaled by the trace, squares of eigenvalues neither overflow nor underflow.
    kernel /= trace
    if rank < _DENSE_SHARE * len(kernel):
        values, vectors = largest_eigenpairs(lambda v: v @ kernel, kernel[0], rank)
    else:
        all_values, all_vectors = torch.linalg.eigh(kernel.double())
        values, vectors = all_values.flip(0)[:rank], all_vectors.T.flip(0)[:rank].to(kernel)
    values = without_rounding(values, kernel.dtype).to(kernel)
    return values * trace, vectors[: len(values)], trace


def _make_orthonormal(vectors: Tensor, layout: FlatLayout) -> None:
    """Make the rows, (k, P), orthonormal in place, each to those before it.

    If rounding changes G Gᵀ by a share of μ₁, it tilts the lifted vectors i and j towards each
    other by that share times μ₁ / √(μ_i μ_j).
    """
    gram = (vectors @ vectors.T).double()
    inverse = torch.linalg.inv(torch.linalg.cholesky(gram)).to(vectors)
    for columns in torch.split(vectors, layout.numels, dim=1):
        columns.copy_(inverse @ columns)
