"""Diagonal Fisher information matrices, and the sensitivity of a model's outputs.

Both are means over samples of powers of per-sample gradients, without damping and without a factor
for the batch size.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample.chunks import Rows
from avalanche_ext.functional.per_sample.sums import summed_powers

FisherKind = Literal["true", "sampled", "empirical"]


def fisher_rows(kind: FisherKind, y: Tensor | None, *, seed: int = 0) -> Rows:
    """Return a function that gives the rows s to propagate back, which define the Fisher.

    F = (1/N) Σ_n Σ_r J_nᵀ s_rn s_rnᵀ J_n, where J_n is the Jacobian (C, P) of the outputs of sample
    n. The outputs are logits, and p is their softmax. The kinds are defined by Kunstner, Balles,
    Hennig 2019 ("Limitations of the empirical Fisher approximation", arXiv:1905.12558), equations 3
    and 4.

    Args:
        kind: "true" is the expectation over the model's own predictive distribution: R = C rows
            s_c = √p_c (e_c − p), so that Σ_c s_c s_cᵀ = diag(p) − p pᵀ. "sampled" is an unbiased
            estimate of it from one label c drawn from p for each sample: R = 1, the row e_c − p.
            "empirical" uses the labels of the data set: R = 1, the row e_y − p.
        y: Labels, (N,); only "empirical" needs them.
        seed: Seed of the drawn labels. Each label depends only on its sample's position and p, not
            on the chunks.

    Raises:
        ValueError: If the kind is unknown or needs labels that are missing; when the rows are
            computed, if a label is not in [0, C).
    """
    if kind not in get_args(FisherKind):
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(get_args(FisherKind))}")
    if kind == "true":
        return _expected
    if kind == "sampled":
        return lambda outputs, place: _residuals(outputs, _drawn(outputs, place, seed))
    if y is None:
        raise ValueError('y=None: kind="empirical" needs labels')
    labels = y
    return lambda outputs, place: _residuals(outputs, labels[place.to(labels.device)])


def check_labels(x: Tensor, y: Tensor | None) -> None:
    """Raise ValueError unless there is one label for each sample, or none at all."""
    if y is not None and y.shape != (len(x),):
        raise ValueError(
            f"y has the shape {tuple(y.shape)}: must be ({len(x)},), a label for each sample of x"
        )


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
    """Return the diagonal of the Fisher information matrix of a classifier.

    It is the mean over samples, (1/N) Σ_n Σ_r (J_nᵀ s_rn)², at the current parameters and in eval
    mode. The model and the global generators do not change. The rules for layers are checked on the
    first and the last sample of each task; if a `forward` uses a layer's parameters differently for
    other samples, this is not detected.

    Args:
        model: Returns logits (n, C), given samples, and their task labels if there are any.
        x: Samples, (N, ...).
        y: Labels, (N,); only `kind="empirical"` needs them.
        kind: See `fisher_rows`. "true" takes C backward passes, the other kinds take one.
        t: Task labels, (N,), of multi-head models.
        seed: Seed of the labels drawn for `kind="sampled"`.
        chunk_size: Number of samples per pass; None: as many as fit into memory.

    Returns:
        The diagonal for each trained parameter, by name, in its shape.

    Raises:
        ValueError: If there are no samples, sizes differ, or a label is not in [0, C).
    """
    check_labels(x, y)
    rows = fisher_rows(kind, y, seed=seed)
    return _mean_powers(model, x, rows, t, 2, chunk_size)


def reversed_fisher(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    t: Tensor | None = None,
    unused: Collection[float] = (),
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher with reversed logits, as in EWC-DR.

    It is (1/N) Σ_n (J_nᵀ (e_y − p̃_n))² with p̃ = softmax(−f(x)), the squared gradient of the
    cross-entropy of −f(x). Where the model is certain of the label, e_y − p and thus the empirical
    Fisher vanish, but e_y − p̃ becomes e_y (Liu and Chang 2026, "Elastic weight consolidation done
    right for continual learning", arXiv:2603.18596). Gradients are those of single samples; the
    official code squares those of mini-batches.

    Args:
        model: As for `diagonal_fisher`.
        x: Samples, (N, ...).
        y: Labels, (N,).
        t: Task labels, (N,), of multi-head models.
        unused: Values that the model outputs for classes it does not know yet. These classes are
            left out of p̃, where they would otherwise be the most probable.
        chunk_size: As for `diagonal_fisher`.

    Returns:
        The diagonal for each trained parameter, by name, in its shape.

    Raises:
        ValueError: If there are no samples, sizes differ, or a label is not in [0, C).
    """
    check_labels(x, y)

    def rows(outputs: Tensor, place: Tensor) -> Tensor:
        reversed_ = -outputs
        for number in unused:
            reversed_ = reversed_.masked_fill(outputs == number, -torch.inf)
        return _residuals(reversed_, y[place.to(y.device)])

    return _mean_powers(model, x, rows, t, 2, chunk_size)


def output_sensitivity(
    model: nn.Module, x: Tensor, *, t: Tensor | None = None, chunk_size: int | None = None
) -> dict[str, Tensor]:
    """Return (1/N) Σ_n |∂‖f(x_n)‖² / ∂θ|, the importance in memory-aware synapses (MAS).

    It needs no labels (Aljundi et al. 2018, arXiv:1711.09601, equations 3 and 5: the squared norm,
    which needs one backward pass only).

    Args:
        model: f, returns outputs (n, C).
        x: Samples, (N, ...).
        t: Task labels, (N,), of multi-head models.
        chunk_size: As for `diagonal_fisher`.

    Returns:
        The importance of each trained parameter, by name, in its shape.

    Raises:
        ValueError: If there are no samples, or sizes differ.
    """
    return _mean_powers(model, x, _of_squared_norm, t, 1, chunk_size)


def _mean_powers(
    model: nn.Module, x: Tensor, rows: Rows, t: Tensor | None, power: int, chunk_size: int | None
) -> dict[str, Tensor]:
    layout = FlatLayout(model.named_parameters())
    total = summed_powers(model, layout, x, rows, t=t, power=power, chunk_size=chunk_size)
    return dict(zip(layout.names, layout.pieces(total / len(x)), strict=True))


def _expected(outputs: Tensor, place: Tensor) -> Tensor:
    p = outputs.softmax(1)
    identity = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    return p.sqrt().T[..., None] * (identity[:, None] - p)


def _residuals(outputs: Tensor, labels: Tensor) -> Tensor:
    n_classes = outputs.shape[1]
    low, high = labels.aminmax()
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"y has labels from {int(low)} to {int(high)}: must be from 0 to {n_classes - 1}, as "
            f"the model has {n_classes} outputs"
        )
    one_hot = nn.functional.one_hot(labels.to(outputs.device).long(), n_classes)
    return (one_hot - outputs.softmax(1))[None]


def _drawn(outputs: Tensor, place: Tensor, seed: int) -> Tensor:
    """Return one label for each sample, by the inverse of the distribution function."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(int(place.max()) + 1, generator=generator, dtype=torch.float64)
    below = outputs.softmax(1).double().cumsum(1)
    u = uniform[place.cpu()].to(below.device) * below[:, -1]
    return torch.searchsorted(below, u[:, None], right=True)[:, 0]


def _of_squared_norm(outputs: Tensor, place: Tensor) -> Tensor:
    return 2 * outputs[None]
