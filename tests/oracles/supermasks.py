"""Masks by sorting lists, and entropies of superposed masks differentiated by differences."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

from tests.oracles.arrays import Array


def supermask_by_loops(scores: Sequence[float], share: float | None) -> list[int]:
    """Ones where the score is at least 0, or for the largest sizes, earlier ones first."""
    if share is None:
        return [int(score >= 0) for score in scores]
    n_ones = max(1, round(share * len(scores)))
    order = sorted(range(len(scores)), key=lambda i: (-abs(scores[i]), i))
    return [int(i in order[:n_ones]) for i in range(len(scores))]


def entropy_of_mixture(
    x: Array, weights: Sequence[Array], masks: Sequence[Sequence[Array]], alpha: Sequence[float]
) -> float:
    """Wortsman et al. (2020), equation 3: layers W * (sum of alpha_i M_i), ReLU between them.

    `masks[i][l]` is the mask of task i on layer l.
    """
    h = x
    for layer, w in enumerate(weights):
        mixed = sum(a * mask[layer] for a, mask in zip(alpha, masks, strict=True))
        h = (w * mixed) @ (h if layer == 0 else np.maximum(h, 0))
    top = max(h)
    total = sum(exp(v - top) for v in h)
    p = [exp(v - top) / total for v in h]
    return -sum(q * log(q) for q in p if q > 0)


def task_by_differences(
    x: Array, weights: Sequence[Array], masks: Sequence[Sequence[Array]], method: str
) -> int:
    """The task whose coefficient lowers the entropy fastest, by central differences."""
    left = [*range(len(masks))]
    while len(left) > 1:
        alpha = [1 / len(left) if i in left else 0.0 for i in range(len(masks))]

        def rate(i: int, alpha: Sequence[float] = alpha) -> float:
            sides = []
            for step in (1e-6, -1e-6):
                moved = [a + step * (i == j) for j, a in enumerate(alpha)]
                sides.append(entropy_of_mixture(x, weights, masks, moved))
            return (sides[0] - sides[1]) / 2e-6

        n = 1 if method == "one_shot" else (len(left) + 1) // 2
        left = sorted(left, key=rate)[:n]
    return left[0]
