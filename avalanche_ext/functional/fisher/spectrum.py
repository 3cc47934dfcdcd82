"""The largest eigenpairs of Fisher information matrices."""

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
from avalanche_ext.functional.per_sample.chunks import Rows
from avalanche_ext.functional.per_sample.sums import layerwise_gradients, summed_powers

SpectrumMethod = Literal["auto", "kernel", "lanczos"]

MOST_KERNEL_ROWS = 4096
"""The largest number of rows M for which "auto" forms the kernel, then 64 MiB in float32."""


@dataclass(frozen=True)
class FisherSpectrum:
    """The largest eigenpairs of a Fisher information matrix F, (P, P).

    Attributes:
        eigenvalues: λ, (k,), descending and positive; fewer than asked for if the rank of F is
            lower.
        eigenvectors: v, (k, P), orthonormal rows in the order of `FlatLayout`; in each, the entry
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

    F = (1/N) Σ_n Σ_r g_rn g_rnᵀ with g_rn = J_nᵀ s_rn is a mean over samples, so it depends neither
    on N nor on a batch size. Its M = R · N gradients (R = C outputs for the true Fisher, 1 for the
    others) are the rows of G. Then F = GᵀG / N, and K = G Gᵀ / N, (M, M), has the same eigenvalues
    except zeros: K u = λ u gives v = Gᵀu / √(Nλ), of length 1 since ‖Gᵀu‖² = N uᵀK u = Nλ (Dangel,
    Tatzel, Hennig 2022, "ViViT: Curvature access through the generalized Gauss-Newton's low-rank
    structure", arXiv:2106.02624). K is a sum over layers, with (E Eᵀ) ∘ (A Aᵀ + 1) for a linear
    one, and Gᵀu is computed layer by layer, so G is never held in memory either.

    Args:
        model: Runs in eval mode, and does not change.
        x: Samples, (N, ...).
        y: Labels, (N,), for "empirical"; None is allowed otherwise.
        rank: Number of eigenpairs, ≥ 0; 0 gives the trace alone.
        kind: See `diagonal.fisher_rows`.
        t: Task labels, (N,), of multi-head models.
        seed: Seed of the labels that "sampled" draws.
        method: "kernel" works as above. It needs rules for all layers. It keeps K and, for each
            layer, its inputs for all samples and the M gradients at its outputs, or the layer's M
            gradients if these are smaller (much memory for large layers, especially with R = C).
            "lanczos" keeps up to 2 · rank + 32 vectors of size P and takes about 3 · rank + 50
            products F v, each as expensive as a pass over all samples. "auto" uses the kernel if
            there are rules and M is at most 4,096 (K then takes 64 MiB in single precision), and
            Lanczos otherwise.

    Raises:
        ValueError: If an argument is out of range, or `method` is "kernel" and layers lack rules.
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
    """Return all eigenvalues that can differ from zero, (min(M, P),), descending, from the kernel.

    Arguments and errors are as for `fisher_spectrum`. Time grows with M³ and memory with M².

    Returns:
        None if `method="auto"` would not use the kernel: if M > 4,096, or layers lack rules.
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
    "the kernel needs rules for all layers with trained parameters and equally many outputs for "
    'each task, which this model lacks; method="lanczos" needs neither'
)


def _wants_kernel(
    method: SpectrumMethod, model: nn.Module, x: Tensor, rows: Rows, t: Tensor | None
) -> bool:
    """Return whether M is small enough, assuming that all samples have the first one's R."""
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
    """Return these eigenpairs; in place, make the entry of largest size of each vector positive."""
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
