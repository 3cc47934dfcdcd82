"""The largest eigenpairs of Fisher information matrices, and what they say of a model."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.diagonal import FisherKind, fisher_rows
from avalanche_ext.functional.fisher.kernel import gradient_kernel, kernel_eigenpairs
from avalanche_ext.functional.fisher.lanczos import largest_eigenpairs, without_rounding
from avalanche_ext.functional.fisher.products import FisherProducts
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.functional.per_sample.sums import Rows, layerwise_gradients, summed_powers

SpectrumMethod = Literal["auto", "kernel", "lanczos"]

MOST_KERNEL_ROWS = 4096
"""Rows of the kernel, M, above which "auto" does without it: 64 MiB in single precision."""


@dataclass(frozen=True)
class FisherSpectrum:
    """The largest eigenpairs of a Fisher information matrix F, (P, P).

    Attributes:
        eigenvalues: λ, (k,), descending and positive; fewer than were asked for where the rank of F
            is lower.
        eigenvectors: v, (k, P), orthonormal rows in the order of `FlatLayout`; of each, the entry
            of largest size is positive.
        trace: tr F, the sum of all P eigenvalues.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    trace: float


def fisher_spectrum(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    rank: int,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    seed: int = 0,
    method: SpectrumMethod = "auto",
) -> FisherSpectrum:
    """Solve max tr(V F Vᵀ) subject to V Vᵀ = I, over V (rank, P), without forming F.

    F = (1/N) Σ_n Σ_r g_rn g_rnᵀ with g_rn = J_nᵀ s_rn is the mean over samples, so that it depends
    neither on N nor on any batch size. Its M = R · N gradients (R = C outputs for the true Fisher,
    1 for the others) are the rows of G, F = GᵀG / N, and K = G Gᵀ / N, (M, M), has the same
    eigenvalues but for zeros: K u = λ u gives v = Gᵀu / √(Nλ), of length 1 since
    ‖Gᵀu‖² = N uᵀK u = Nλ (Dangel, Tatzel, Hennig 2022, "ViViT: Curvature access through the
    generalized Gauss-Newton's low-rank structure", arXiv:2106.02624). K is a sum over layers, for a
    linear one (E Eᵀ) ∘ (A Aᵀ + 1), and Gᵀu is had layer by layer, so that G is never held either.

    Args:
        model: Run in eval mode, and left as it is.
        x: Samples, (N, ...).
        y: Labels, (N,), for "empirical"; else they may be None.
        rank: Number of eigenpairs, ≥ 0; 0 gives the trace alone.
        kind: See `fisher.fisher_rows`.
        t: Task labels, (N,), of multi-head models.
        seed: Of the labels that "sampled" draws.
        method: "kernel" as above, which needs rules for all layers, and holds what each sees of all
            samples, the M gradients at what it puts out, and K (much for convolutions, above all
            with R = C); "lanczos" holds up to 2 · rank + 32
            vectors of size P and takes some 3 · rank + 50 products F v, each of the cost of a pass
            over all samples; "auto" is the kernel where there are rules and M is at most 4,096 (K
            has 64 MiB in single precision), and else Lanczos.

    Raises:
        ValueError: If an argument is not as above, or "kernel" is asked for and layers lack rules.
        FloatingPointError: If F has entries that are not finite.
    """
    if rank < 0:
        raise ValueError(f"rank={rank}: must be at least 0")
    if method not in ("auto", "kernel", "lanczos"):
        raise ValueError(f'method={method!r}: must be "auto", "kernel" or "lanczos"')
    layout = FlatLayout(model.named_parameters())
    rows = fisher_rows(kind, y, seed=seed)
    with torch.no_grad():
        if rank > 0 and _wants_kernel(method, model, x, rows, t):
            gradients = layerwise_gradients(model, layout, x, rows, t=t)
            if gradients is not None:
                values, vectors, trace = kernel_eigenpairs(gradients, layout, rank)
                _check(trace)
                return _signed(values / len(x), vectors, trace / len(x))
        trace = _trace(model, layout, x, rows, t)
        if rank == 0 or trace == 0:
            return _none(layout, trace)
        if method == "kernel":
            raise ValueError('method="kernel": ' + _NO_RULES)
        return _by_products(FisherProducts(model, layout, x, rows, t=t), trace, rank)


def fisher_eigenvalues(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    seed: int = 0,
) -> Tensor | None:
    """Return all eigenvalues that can differ from zero, (min(M, P),), descending, by the kernel.

    Arguments are those of `fisher_spectrum`; time grows with M³ and memory with M².

    Returns:
        None where `fisher_spectrum` by itself would do without the kernel: M > 4,096, or layers
        lack rules.

    Raises:
        ValueError: If an argument is not as there.
        FloatingPointError: If the eigenvalues are not finite.
    """
    layout, rows = FlatLayout(model.named_parameters()), fisher_rows(kind, y, seed=seed)
    if not _wants_kernel("auto", model, x, rows, t):
        return None
    gradients = layerwise_gradients(model, layout, x, rows, t=t)
    if gradients is None:
        return None
    kernel = gradient_kernel(gradients) / len(x)
    _check(float(kernel.diagonal().sum()))
    eigenvalues: Tensor = torch.linalg.eigvalsh(kernel.double()).flip(0).clamp_(min=0)
    return eigenvalues[: sum(layout.numels)].to(kernel)


_NO_RULES = (
    "the kernel needs rules for all layers that have trained parameters, and as many outputs for "
    'each task, which this model has not; method="lanczos" of fisher_spectrum needs neither'
)


def _wants_kernel(
    method: SpectrumMethod, model: nn.Module, x: Tensor, rows: Rows, t: Tensor | None
) -> bool:
    """Tell whether M, taking R of the first sample for that of all, is small enough."""
    if method != "auto" or not len(x):
        return method != "lanczos"
    first = [part[:1] for part in (x, t) if part is not None]
    with left_as_it_was(model, x), torch.no_grad():
        n_rows = len(rows(model(*first), torch.zeros(1, dtype=torch.int64)))
    return len(x) * n_rows <= MOST_KERNEL_ROWS


def _by_products(product: FisherProducts, trace: float, rank: int) -> FisherSpectrum:
    like = product.layout.flatten([None for _ in product.layout.parameters])
    values, vectors = largest_eigenpairs(lambda v: product(v).div_(trace), like, rank)
    values = without_rounding(values, like.dtype).to(like)
    return _signed(values * trace, vectors[: len(values)], trace)


def _none(layout: FlatLayout, trace: float) -> FisherSpectrum:
    like = layout.parameters[0].detach()
    return FisherSpectrum(like.new_zeros(0), like.new_zeros(0, sum(layout.numels)), trace)


def _signed(values: Tensor, vectors: Tensor, trace: float) -> FisherSpectrum:
    """Return these pairs with the largest entry of each vector made positive, in place."""
    for vector in vectors:
        vector *= torch.where(vector.max() < -vector.min(), -1, 1)
    return FisherSpectrum(values, vectors, trace)


def _trace(model: nn.Module, layout: FlatLayout, x: Tensor, rows: Rows, t: Tensor | None) -> float:
    trace = float(summed_powers(model, layout, x, rows, t=t).double().sum()) / len(x)
    _check(trace)
    return trace


def _check(trace: float) -> None:
    if not isfinite(trace):
        raise FloatingPointError(
            f"the trace of the Fisher is {trace}: outputs or gradients of the model are not finite"
        )
