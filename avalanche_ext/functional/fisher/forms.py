"""How well a Fisher is approximated by its diagonal, largest eigenpairs or Kronecker factors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.fisher.diagonal import FisherKind, diagonal_fisher, fisher_rows
from avalanche_ext.functional.fisher.kronecker import kronecker_fisher
from avalanche_ext.functional.fisher.lanczos import largest_eigenpairs
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.functional.fisher.products import FisherProducts
from avalanche_ext.functional.fisher.spectrum import FisherSpectrum
from avalanche_ext.functional.model.gradients import FlatLayout


def fisher_forms(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    spectrum: FisherSpectrum,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Curvature]:
    """Return the approximations of one Fisher that methods use, by name.

    They are its diagonal (online EWC), the largest eigenpairs, these plus the rest of the diagonal
    (spectrum EWC), and one Kronecker product for each layer (Kronecker EWC). A sum of several keeps
    no more eigenpairs than each one has.

    Args:
        model: Runs in eval mode and does not change.
        x: Samples, (N, ...).
        y: Labels, (N,); only `kind="empirical"` needs them.
        spectrum: The largest eigenpairs of the same Fisher.
        kind: See `diagonal.fisher_rows`.
        t: Task labels, (N,), of multi-head models.
        seed: Seed of the labels drawn for `kind="sampled"`.
    """
    layout = FlatLayout(model.named_parameters())
    by_name = diagonal_fisher(model, x, y, kind, t=t, seed=seed)
    diagonal = layout.flatten([by_name[name] for name in layout.names])
    pairs, rank = (spectrum.eigenvalues, spectrum.eigenvectors), len(spectrum.eigenvalues)
    return {
        "diagonal": LowRankCurvature.of_diagonal(diagonal),
        "spectrum": LowRankCurvature.of_spectrum(*pairs, rank=rank),
        "spectrum with diagonal": LowRankCurvature.of_spectrum(*pairs, diagonal, rank),
        "Kronecker": kronecker_fisher(model, x, y, kind, t=t, seed=seed),
    }


def fisher_quadratics(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    deltas: Tensor,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """Return δᵀ F δ = (1/N) Σ_n Σ_r (g_rn · δ)² for vectors δ, (b, P), as (b,), double precision.

    F is the whole Fisher, which is never formed. The other arguments are as for `fisher_forms`.
    """
    layout = FlatLayout(model.named_parameters())
    products = FisherProducts(model, layout, x, fisher_rows(kind, y, seed=seed), t=t)(deltas)
    return (deltas.double() * products.double()).sum(1)


def largest_of(curvature: Curvature, like: Tensor, rank: int) -> Tensor:
    """Return the `rank` largest eigenvalues of a curvature, (k,), descending.

    Args:
        curvature: F, in any form.
        like: A tensor (P,) that sets the precision and device.
        rank: Number of eigenvalues; zeros may be left out.
    """
    known = curvature.known_eigenvalues
    if known is not None:
        return known.double().topk(min(rank, len(known))).values
    scale = curvature.trace
    if not scale > 0:
        return torch.zeros(0, dtype=torch.float64)
    values, _ = largest_eigenpairs(
        lambda vectors: torch.stack([curvature.product(v) for v in vectors]) / scale, like, rank
    )
    return values.double() * scale


def kept_of_trace(forms: Mapping[str, Curvature], trace: float) -> dict[str, float]:
    """Return the trace of each approximation divided by that of the Fisher, which is above 0."""
    return {name: form.trace / trace for name, form in forms.items()}


def eigenvalue_errors(forms: Mapping[str, Curvature], spectrum: FisherSpectrum) -> dict[str, float]:
    """Return Σ_i |λ̂_i − λ_i| / Σ_i λ_i over the k largest eigenvalues of each form and the Fisher.

    Args:
        forms: The approximations, by name.
        spectrum: The k largest eigenpairs of the Fisher, at least one.
    """
    true, like = spectrum.eigenvalues.double().cpu(), spectrum.eigenvectors[0]
    errors = {}
    for name, form in forms.items():
        found = torch.zeros_like(true)
        values = largest_of(form, like, len(true)).cpu()
        found[: len(values)] = values
        errors[name] = float((found - true).abs().sum() / true.sum())
    return errors
