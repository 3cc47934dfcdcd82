"""Diagonal Fisher information matrices, and the sensitivity of a model's outputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from avalanche_ext.functional.gradients import FlatLayout
from avalanche_ext.functional.per_sample import Rows, summed_powers

FisherKind = Literal["true", "sampled", "empirical"]


def fisher_rows(kind: FisherKind, y: Tensor | None, *, seed: int = 0) -> Rows:
    """Return what is propagated back so that F = (1/N) Σ_n Σ_r J_nᵀ s_rn s_rnᵀ J_n.

    J_n is the Jacobian (C, P) of the outputs of sample n, which are taken for logits, and p their
    softmax. The three kinds are told apart in Kunstner, Balles, Hennig 2019 ("Limitations of the
    empirical Fisher approximation", arXiv:1905.12558).

    Args:
        kind: "true" is the expectation over the model's own predictive distribution, for which
            there are R = C rows √p_c (e_c − p); Σ_c s_c s_cᵀ = diag(p) − p pᵀ. "sampled" draws one
            label c of it for each sample, R = 1, and has the row e_c − p; its mean over draws is
            the true one. "empirical" has the row e_y − p of the data set's labels.
        y: Labels, (N,); needed for "empirical" only.
        seed: Of the drawn labels, which depend on a sample's place alone, not on chunks.
    """
    if kind == "true":
        return _expected
    if kind == "sampled":
        return lambda outputs, place: _residuals(outputs, _draw(outputs, place, seed))
    if y is None:
        raise ValueError('y=None: kind="empirical" needs labels')
    labels = y
    return lambda outputs, place: _residuals(outputs, labels[place.to(labels.device)])


def diagonal_fisher(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    kind: FisherKind = "true",
    *,
    t: Tensor | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information matrix, by the names of trained parameters.

    It is the mean over samples, (1/N) Σ_n Σ_r (J_nᵀ s_rn)², so that it depends neither on N nor on
    any batch size.
    """
    layout = FlatLayout(model.named_parameters())
    total = summed_powers(
        model, layout, x, fisher_rows(kind, y, seed=seed), t=t, chunk_size=chunk_size
    )
    return dict(zip(layout.names, layout.pieces(total / len(x)), strict=True))


def output_sensitivity(
    model: nn.Module, x: Tensor, *, t: Tensor | None = None, chunk_size: int | None = None
) -> dict[str, Tensor]:
    """Return (1/N) Σ_n |∂‖f(x_n)‖² / ∂θ|, by the names of trained parameters (MAS)."""
    layout = FlatLayout(model.named_parameters())
    total = summed_powers(model, layout, x, _squared_norm_rows, t=t, power=1, chunk_size=chunk_size)
    return dict(zip(layout.names, layout.pieces(total / len(x)), strict=True))


def _expected(outputs: Tensor, place: Tensor) -> Tensor:
    p = outputs.softmax(1)
    identity = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    return p.sqrt().T[..., None] * (identity[:, None] - p)


def _residuals(outputs: Tensor, labels: Tensor) -> Tensor:
    rows = -outputs.softmax(1)
    rows[torch.arange(len(rows), device=rows.device), labels.to(rows.device)] += 1
    return rows[None]


def _draw(outputs: Tensor, place: Tensor, seed: int) -> Tensor:
    """Return one label for each sample by the inverse of the distribution's function."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(int(place.max()) + 1, generator=generator, dtype=torch.float64)
    steps = outputs.softmax(1).double().cumsum(1)
    u = uniform[place.cpu()].to(steps.device) * steps[:, -1]
    return torch.searchsorted(steps, u[:, None], right=True)[:, 0].clamp(max=steps.shape[1] - 1)


def _squared_norm_rows(outputs: Tensor, place: Tensor) -> Tensor:
    return 2 * outputs[None]
