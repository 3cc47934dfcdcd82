"""Losses on representations."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log, log1p
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Normalisation = Literal["batch", "pairs"]
Form = Literal["rows", "matrix", "pairs"]
Switch = Literal["omit", "repel"]

_NO_LENGTH = 1e-6
"""Vectors that are no longer than this have no direction."""


def discriminative_representation_loss(
    representations: Tensor,
    labels: Tensor,
    alpha: float,
    normalisation: Normalisation = "batch",
) -> Tensor:
    """Discriminative representation loss (DRL; Chen, Diethe and Flach 2020).

    L = L_between + α L_within, where L_between sums ⟨h_i, h_j⟩ over the pairs i ≠ j of different
    labels, and L_within over those of equal labels. Inner products are of unnormalised
    representations; several layers enter as one concatenated vector, since their inner products
    add up.

    Args:
        representations: h, (B, H).
        labels: Class labels, (B,).
        alpha: Weight α of the pairs of one class, at least 0.
        normalisation: "batch" divides both sums by B², all pairs counted, as the official code
            does and as the published numbers need; "pairs" divides each sum by its number of
            pairs, as the paper's text has it.

    Returns:
        A scalar, 0 where there are no pairs.

    Examples:
        >>> h = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
        >>> y = torch.tensor([0, 0, 1])
        >>> discriminative_representation_loss(h, y, alpha=0.5) * 9
        tensor(9.)
    """
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

    That is a mean over the B rows, of sums over the pairs of each. A vector no longer than
    1e-6 has the similarity 0 to all others, and a gradient of 0.

    Args:
        representations: h, (B, H); or of several layers, each (B, H_l), over which the loss is
            summed.
        labels: Class labels, (B,).
        alpha: α, how sharply the least similar pairs of one class stand out, above 0.
        beta: β, likewise the most similar pairs of different classes, above 0.
        base: λ, the similarity that parts the two.
        form: "pairs" is the above. In "rows" each sum is over all B entries of its row, those that
            are no pair of the kind, the diagonal among them, with s = 0: a pair's weight falls with
            B, and the loss is not 0 where there are no pairs of a kind. On Split MNIST it
            alone reproduces the number of Chen, Diethe and Flach (2020); on Permuted MNIST it and
            "matrix" cannot be told apart. "matrix" is as their code now is: two logarithms for the
            whole batch, not two for each row, each of a sum over all B² entries, of which those
            that are no pair have s = 0; still divided by B.

    Returns:
        A scalar, 0 for a single row.
    """
    layers = [representations] if isinstance(representations, Tensor) else [*representations]
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
    """Return log[1 + Σ exp(c (s − λ))], summed over layers, and over rows but in form "matrix".

    The diagonal holds no pairs, which leaves room in it for the 1.
    """
    shift = -scale * base
    weights = pairs.to(similarities.dtype).mul_(scale)
    offsets = torch.full_like(weights, shift)
    if form == "pairs":
        offsets.masked_fill_(~pairs, -inf).fill_diagonal_(0)
    else:
        # Each diagonal entry stands for exp(shift), s being 0, and for the 1, or its share of it.
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

    where 1⁺ marks the pairs of one class and 1⁻ those of different classes, as the code of Chen,
    Diethe and Flach (2020) has it. That is a sum, not a mean: it grows with B². A vector no longer
    than 1e-6 is taken for orthogonal to all others, d = 2, and has a gradient of 0.

    Without the hinge β enters by the numbers of pairs alone, −½ β (n⁺ − n⁻): its gradient does not
    depend on the representations, nor theirs on β.

    Args:
        representations: h, (B, H).
        labels: Class labels, (B,).
        boundary: β, a scalar.
        margin: γ, at least 0.
        switched: (B, B), true where a pair is switched; None switches none.
        hinge: Whether each pair adds no less than 0, as it does in the paper.
        switch: What becomes of switched pairs. "omit": they add γ alone. To that the code of Chen
            and others comes down, which counts those of one class in both 1⁺ and 1⁻, and those of
            different classes in neither. "repel": those of one class are taken for pairs of
            different classes, and those of different classes are left as they are, the paper's
            ρ-regularisation.

    Returns:
        A scalar, 0 for a single row.
    """
    n = len(labels)
    signs = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(representations.dtype)
    signs.mul_(2).sub_(1)
    if switched is not None:
        signs.masked_fill_(switched, 0 if switch == "omit" else -1)
    signs.fill_diagonal_(0)
    similarities = _cosines(representations)
    if hinge:
        losses = (signs * (2 - 2 * similarities - boundary) + margin).relu()
        return losses.sum() / 2 - n * margin / 2  # The diagonal has added γ.
    excess = (1 - boundary / 2) * signs.sum()
    return excess - (signs * similarities).sum() + n * (n - 1) * margin / 2


def _cosines(representations: Tensor) -> Tensor:
    """Return the cosine similarities of all rows, (B, B); those of a row of length 0 are 0."""
    lengths = torch.linalg.vector_norm(representations, dim=1, keepdim=True)
    # Divided by infinity, such rows are 0, and so are their gradients.
    directions = representations / F.threshold(lengths, _NO_LENGTH, inf)
    return directions @ directions.T
