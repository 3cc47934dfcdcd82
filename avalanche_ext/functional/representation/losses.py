"""Losses on representations: DRL, multi-similarity and margin."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log, log1p
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Normalisation = Literal["batch", "pairs"]
Form = Literal["rows", "matrix", "pairs"]
Switch = Literal["omit", "repel"]

_NO_LENGTH = 1e-6
"""A vector no longer than this has no direction."""


def discriminative_representation_loss(
    representations: Tensor,
    labels: Tensor,
    alpha: float,
    normalisation: Normalisation = "batch",
) -> Tensor:
    """Discriminative representation loss (DRL; Chen, Diethe and Flach 2020).

    L = L_between + α L_within, where L_between sums ⟨h_i, h_j⟩ over the pairs i ≠ j of different
    labels, and L_within over the pairs of equal labels. Representations are not normalised.
    Several layers enter as one concatenated vector, since their inner products add up.

    Args:
        representations: h, (B, H).
        labels: Class labels, (B,).
        alpha: Weight α of the pairs of one class, at least 0.
        normalisation: "batch" divides both sums by B², as the official code does and the published
            numbers need; "pairs" divides each sum by its number of pairs, as the paper's text says.

    Returns:
        A scalar, 0 where there are no pairs.

    Raises:
        ValueError: If a shape is another, or `normalisation` is unknown.

    Examples:
        >>> h = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
        >>> y = torch.tensor([0, 0, 1])
        >>> discriminative_representation_loss(h, y, alpha=0.5) * 9
        tensor(9.)
    """
    _check_rows(representations, labels)
    _check_option("normalisation", normalisation, Normalisation)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(representations.dtype)
    if normalisation == "batch":
        weights = (1 + (alpha - 1) * same) / len(labels) ** 2
    else:
        n_same = same.sum() - len(labels)
        n_different = same.numel() - same.sum()
        weights = (1 - same) / n_different.clamp(min=1) + alpha * same / n_same.clamp(min=1)
    weights.fill_diagonal_(0)
    return torch.sum(weights @ representations * representations)


def multi_similarity_loss(
    representations: Tensor | Sequence[Tensor],
    labels: Tensor,
    alpha: float = 2.0,
    beta: float = 40.0,
    base: float = 0.5,
    form: Form = "rows",
) -> Tensor:
    """Multi-similarity loss (Wang, Han, Huang, Dong and Scott 2019, equation 15, without mining).

    With s the cosine similarity, P_i the other rows of row i's class, N_i those of other classes,
    and λ the base,

        L = 1/B Σ_i { 1/α log[1 + Σ_{k∈P_i} exp(−α (s_ik − λ))]
                    + 1/β log[1 + Σ_{k∈N_i} exp(β (s_ik − λ))] }.

    This is a mean over the B rows of sums over the pairs of each row. A vector no longer than 1e-6
    has the similarity 0 to all others, and a gradient of 0.

    Args:
        representations: h, (B, H); or of several layers, each (B, H_l), over which the loss is
            summed.
        labels: Class labels, (B,).
        alpha: α, how sharply the least similar pairs of one class stand out, above 0.
        beta: β, how sharply the most similar pairs of different classes stand out, above 0.
        base: λ, the similarity that separates the two.
        form: "pairs" is the formula above. "rows" sums over all B entries of each row, with s = 0
            for the diagonal and all entries that are no pair of the kind: a pair's weight falls
            with B, and the loss is not 0 if there are no pairs of a kind. "matrix" is what the code
            of Chen, Diethe and Flach (2020) does now: two logarithms for the whole batch instead of
            two for each row, each of a sum over all B² entries, with s = 0 for those that are no
            pair, still divided by B. On Split MNIST only "rows" reproduces their number; on
            Permuted MNIST the results of "rows" and "matrix" do not differ.

    Returns:
        A scalar, 0 for a single row.

    Raises:
        ValueError: If a shape is another, or `form` is unknown.
    """
    layers = [representations] if isinstance(representations, Tensor) else [*representations]
    for layer in layers:
        _check_rows(layer, labels)
    _check_option("form", form, Form)
    n = len(labels)
    if n < 2:
        return torch.stack([(0 * h).sum() for h in layers]).sum()
    similarities = torch.stack([_cosines(h) for h in layers])
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    different = ~same
    same.fill_diagonal_(False)
    within = _soft_maximum(similarities, same, -alpha, base, form)
    between = _soft_maximum(similarities, different, beta, base, form)
    return torch.add(within / (alpha * n), between, alpha=1 / (beta * n))


def _soft_maximum(
    similarities: Tensor, pairs: Tensor, scale: float, base: float, form: Form
) -> Tensor:
    """Return log[1 + Σ exp(c (s − λ))], summed over layers, and over rows except in form "matrix".

    The diagonal has no pairs, so it can hold the 1.
    """
    shift = -scale * base
    weights = pairs.to(similarities.dtype).mul_(scale)
    offsets = torch.full_like(weights, shift)
    if form == "pairs":
        offsets.masked_fill_(~pairs, -inf).fill_diagonal_(0)
    else:
        # Each diagonal entry holds exp(shift), as s is 0, and the 1 or its share of it.
        share = -log(len(pairs)) if form == "matrix" else 0.0
        offsets.fill_diagonal_(max(shift, share) + log1p(exp(-abs(shift - share))))
    dims = (-2, -1) if form == "matrix" else (-1,)
    return torch.addcmul(offsets, similarities, weights).logsumexp(dims).sum()


def margin_loss(
    representations: Tensor,
    labels: Tensor,
    boundary: Tensor,
    margin: float = 0.2,
    switched: Tensor | None = None,
    hinge: bool = False,
    switch: Switch = "omit",
) -> Tensor:
    """Margin loss with switched pairs (R-margin; Roth, Milbich, Sinha and others 2020).

    With d the squared distance of representations of length 1, β the boundary and γ the margin,

        L = ½ Σ_{i≠j} [1⁺_ij (d_ij − β) − 1⁻_ij (d_ij − β) + γ],

    where 1⁺ marks the pairs of one class and 1⁻ the pairs of different classes, as in the code of
    Chen, Diethe and Flach (2020). This is a sum, not a mean: it grows with B². A vector no longer
    than 1e-6 counts as orthogonal to all others, d = 2, and has a gradient of 0.

    Without the hinge, β enters only through the numbers of pairs, −½ β (n⁺ − n⁻): its gradient does
    not depend on the representations, nor does their gradient on β.

    Args:
        representations: h, (B, H).
        labels: Class labels, (B,).
        boundary: β, a scalar.
        margin: γ, at least 0.
        switched: (B, B), true where a pair is switched; None switches none.
        hinge: Whether each pair adds at least 0, as in the paper.
        switch: What happens to switched pairs. "omit": they add only γ. The code of Chen, Diethe
            and Flach amounts to this, as it counts switched pairs of one class in both 1⁺ and 1⁻,
            and switched pairs of different classes in neither. "repel": switched pairs of one class
            are treated as pairs of different classes, and pairs of different classes stay as they
            are, the paper's ρ-regularisation.

    Returns:
        A scalar, 0 for a single row.

    Raises:
        ValueError: If a shape is another, or `switch` is unknown.
    """
    _check_rows(representations, labels)
    _check_option("switch", switch, Switch)
    n = len(labels)
    signs = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(representations.dtype)
    signs.mul_(2).sub_(1)
    if switched is not None:
        signs.masked_fill_(switched, 0 if switch == "omit" else -1)
    signs.fill_diagonal_(0)
    similarities = _cosines(representations)
    if hinge:
        losses = (signs * (2 - 2 * similarities - boundary) + margin).relu()
        return losses.sum() / 2 - n * margin / 2  # The diagonal added γ once for each row.
    excess = (1 - boundary / 2) * signs.sum()
    return excess - (signs * similarities).sum() + n * (n - 1) * margin / 2


def _check_rows(representations: Tensor, labels: Tensor) -> None:
    if representations.ndim != 2 or labels.shape != representations.shape[:1]:
        raise ValueError(
            f"representations must be (B, H) and labels (B,), but have the shapes "
            f"{(*representations.shape,)} and {(*labels.shape,)}"
        )


def _check_option(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        known = ", ".join(map(repr, get_args(options)))
        raise ValueError(f"{name} is {value!r}, but must be one of {known}")


def _cosines(representations: Tensor) -> Tensor:
    """Return the cosine similarities of all rows, (B, B); a row of length 0 has 0 with all."""
    lengths = torch.linalg.vector_norm(representations, dim=1, keepdim=True)
    # Short rows are divided by infinity, so they and their gradients are 0.
    directions = representations / F.threshold(lengths, _NO_LENGTH, inf)
    return directions @ directions.T
