"""Losses on representations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["batch", "pairs"]


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
