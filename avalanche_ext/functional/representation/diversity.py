"""How similar the gradients and the representations of pairs of samples are.

Two samples conflict if a step on one of them increases the loss of the other. To first order, they
do if the inner product of their gradients is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.diagonal import fisher_rows
from avalanche_ext.functional.fisher.kernel import gradient_kernel
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was, outputs_at
from avalanche_ext.functional.per_sample.backward import looped_gradients
from avalanche_ext.functional.per_sample.chunks import Rows
from avalanche_ext.functional.per_sample.sums import layerwise_gradients

_ROUNDING = 1e-6
"""Tolerance for equal cosines in single precision."""


@dataclass(frozen=True)
class PairCosines:
    """Pairs of samples of one kind: of the same class (positive) or of two classes (negative).

    Attributes:
        gradients: cos(g_i, g_j), (n,), in [−1, 1].
        representations: cos(h_i, h_j), (n,), in [−1, 1].
    """

    gradients: Tensor
    representations: Tensor

    def numbers(self) -> dict[str, float]:
        """Return summary numbers by name; nan where one is undefined.

        `gradient_mean` and `gradient_std` (divided by n) describe the gradients' cosines,
        `conflicting` is the share of these cosines below 0, and `conflict_mean` their mean.
        `representation_mean` is the mean of the representations' cosines, and `correlation` is
        Pearson's correlation of the two kinds of cosines.
        """
        g, h = self.gradients.double(), self.representations.double()
        return {
            "gradient_mean": float(g.mean()),
            "gradient_std": float((g - g.mean()).square().mean().sqrt()),
            "conflicting": float((g < 0).double().mean()),
            "conflict_mean": float(g[g < 0].mean()),
            "representation_mean": float(h.mean()),
            "correlation": _correlation(g, h),
        }


def pairs_by_kind(
    gradients: Tensor, representations: Tensor, labels: Tensor
) -> dict[str, PairCosines]:
    """Return the pairs i < j of N samples by kind, "negative" and "positive".

    A pair is left out if the gradient or representation of a sample has length zero or is not
    finite: without a cosine, the samples are neither in conflict nor orthogonal.

    Args:
        gradients: Cosines of the gradients, (N, N), nan where undefined; see `gradient_cosines`.
        representations: Cosines of the representations, (N, N), nan where undefined; see `cosines`.
        labels: Classes, (N,).
    """
    n = len(gradients)
    i, j = torch.triu_indices(n, n, offset=1, device=gradients.device)
    g, h, is_positive = gradients[i, j], representations[i, j], labels[i] == labels[j]
    is_defined = g.isfinite() & h.isfinite()
    kinds = {"negative": is_defined & ~is_positive, "positive": is_defined & is_positive}
    return {name: PairCosines(g[kind], h[kind]) for name, kind in kinds.items()}


def cosines(vectors: Tensor) -> Tensor:
    """Return the cosines of all pairs of rows, (N, H) → (N, N); nan for rows of length 0."""
    # Scaled by the largest entry, squares neither overflow nor underflow.
    scaled = vectors.double() / vectors.double().abs().amax(1, keepdim=True)
    return _normalised(scaled @ scaled.T)


@torch.no_grad()
def gradient_cosines(model: nn.Module, x: Tensor, y: Tensor, *, t: Tensor | None = None) -> Tensor:
    """Return the cosines of the cross-entropy's gradients for all pairs of samples, (N, N).

    The gradients are taken for all trained parameters, in eval mode. Their inner products are sums
    over layers; a linear layer with inputs a and gradients e at its outputs contributes (e_i ·
    e_j)(a_i · a_j + 1), so no gradient is formed. If some parameter has no such rule, all N
    gradients are stored, (N, P).

    Args:
        model: Returns logits (n, C), given samples, and their task labels if there are any; it does
            not change.
        x: Samples, (N, ...).
        y: Labels, (N,).
        t: Task labels, (N,), of multi-head models.

    Returns:
        Cosines; nan for gradients of length zero.

    Raises:
        ValueError: If there are no samples, sizes differ, or a label is not in [0, C).
    """
    if y.shape != (len(x),):
        raise ValueError(
            f"y has the shape {tuple(y.shape)}: must be ({len(x)},), a label for each sample of x"
        )
    layout, rows = FlatLayout(model.named_parameters()), _directions(y)
    layers = layerwise_gradients(model, layout, x, rows, t=t)
    if layers is not None:
        return _normalised(gradient_kernel(layers).double())
    return cosines(_formed(model, layout, x, rows, t))


def _directions(y: Tensor) -> Rows:
    """Return the rows e_y − p, scaled to length 1, since those of well fitted samples are tiny.

    The length of these rows does not change any cosine. The entry of y is computed as minus the sum
    of the others, because 1 − p_y is mere rounding if they are small.
    """
    residuals = fisher_rows("empirical", y)

    def rows(outputs: Tensor, place: Tensor) -> Tensor:
        (s,) = residuals(outputs.double(), place)
        labels = y[place.to(y.device)].to(s.device).long()[:, None]
        s = s.scatter_add(1, labels, -s.sum(1, keepdim=True))
        length = torch.linalg.vector_norm(s, dim=1, keepdim=True)
        return torch.where(length == 0, s, s / length).to(outputs)[None]

    return rows


def _formed(
    model: nn.Module, layout: FlatLayout, x: Tensor, rows: Rows, t: Tensor | None
) -> Tensor:
    """Return the gradients, (N, P), one sample after another."""
    gradients = x.new_empty(len(x), sum(layout.numels), dtype=layout.parameters[0].dtype)
    with left_as_it_was(model, x):
        for n, gradient in enumerate(gradients):
            inputs = [part[n : n + 1] for part in (x, t) if part is not None]
            output = outputs_at({}, model, inputs)
            s = rows(output.detach(), torch.tensor([n]))
            (pieces,) = looped_gradients([output], layout.parameters, s)
            layout.flatten(pieces, out=gradient)
    return gradients


def _normalised(products: Tensor) -> Tensor:
    """Return inner products, (N, N), divided by both lengths; nan where one is zero."""
    lengths = products.diagonal().clamp(min=0).sqrt()
    return (products / lengths[:, None] / lengths).clamp_(-1, 1)


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return Pearson's correlation; nan if one of the two does not vary beyond rounding."""
    a, b = a - a.mean(), b - b.mean()
    std_a, std_b = (float(each.square().mean().sqrt()) for each in (a, b))
    if not min(std_a, std_b) > _ROUNDING:
        return math.nan
    return float((a * b).mean()) / (std_a * std_b)
