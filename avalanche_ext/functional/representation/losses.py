"""Losses on representations: DRL and margin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from avalanche_ext.functional.representation.rows import (
    check_option,
    check_rows,
    directions,
)

Normalisation = Literal["batch", "pairs"]
Switch = Literal["omit", "repel"]


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
        normalisation: "batch" divides both sums by B², as in the official code, which reproduces
            the published numbers; "pairs" divides each sum by its number of pairs, as in the
            paper's text.

    Returns:
        A scalar, 0 if there are no pairs.

    Raises:
        ValueError: If a shape is wrong, or `normalisation` is unknown.

    Examples:
        >>> h = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
        >>> y = torch.tensor([0, 0, 1])
        >>> discriminative_representation_loss(h, y, alpha=0.5) * 9
        tensor(9.)
    """
    check_rows(representations, labels)
    check_option("normalisation", normalisation, Normalisation)
    same = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(representations.dtype)
    if normalisation == "batch":
        weights = (1 + (alpha - 1) * same) / len(labels) ** 2
    else:
        n_same = same.sum() - len(labels)
        n_different = same.numel() - same.sum()
        weights = (1 - same) / n_different.clamp(min=1) + alpha * same / n_same.clamp(min=1)
    weights.diagonal().zero_()  # fill_diagonal_ would be compiled for a single B only.
    return torch.sum(weights @ representations * representations)


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
    not depend on the representations, and their gradient does not depend on β.

    Args:
        representations: h, (B, H).
        labels: Class labels, (B,).
        boundary: β, a scalar.
        margin: γ, at least 0.
        switched: (B, B), true where a pair is switched; None switches none.
        hinge: Whether each pair adds at least 0, as in the paper.
        switch: The treatment of switched pairs. "omit": they add only γ. The code of Chen, Diethe
            and Flach amounts to this, as it counts switched pairs of one class in both 1⁺ and 1⁻,
            and switched pairs of different classes in neither. "repel": switched pairs of one class
            are treated as pairs of different classes, and pairs of different classes do not change;
            this is the paper's ρ-regularisation.

    Returns:
        A scalar, 0 for a single row.

    Raises:
        ValueError: If a shape is wrong, or `switch` is unknown.
    """
    check_rows(representations, labels)
    check_option("switch", switch, Switch)
    n = len(labels)
    signs = (labels.unsqueeze(0) == labels.unsqueeze(1)).to(representations.dtype)
    signs.mul_(2).sub_(1)
    if switched is not None:
        signs.masked_fill_(switched, 0 if switch == "omit" else -1)
    signs.diagonal().zero_()
    units, _ = directions(representations)
    similarities = units @ units.T
    if hinge:
        losses = (signs * (2 - 2 * similarities - boundary) + margin).relu()
        return losses.sum() / 2 - n * margin / 2  # The diagonal added γ once for each row.
    excess = (1 - boundary / 2) * signs.sum()
    return excess - (signs * similarities).sum() + n * (n - 1) * margin / 2
