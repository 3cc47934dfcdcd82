"""Gradient-based sample selection, greedy: scores, and what becomes of a full memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from math import sqrt

import numpy as np

from tests.oracles.arrays import Array


def max_cosines_by_loops(
    gradients: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
) -> list[float]:
    """Aljundi et al. (2019), Algorithm 2, line 5; 0 with a gradient that is zero."""
    largest = []
    for g in gradients:
        cosines = []
        for r in references:
            product = sum(a * b for a, b in zip(g, r, strict=True))
            lengths = sqrt(sum(a * a for a in g)) * sqrt(sum(b * b for b in r))
            cosines.append(product / lengths if lengths > 0 else 0.0)
        largest.append(max(cosines))
    return largest


def replacements_by_enumeration(held: Sequence[float], arriving: Sequence[float]) -> Array:
    """The probability that each arriving sample replaces each held one, (B, N).

    All orders in which candidates may be drawn are gone through; at least B of the held scores
    must be larger than the least.
    """
    least, most = min(held), max(held)
    weights = [(s - least) / (most - least + 0.01) for s in held]
    probabilities = np.zeros((len(arriving), len(held)))
    for drawn in permutations(range(len(held)), len(arriving)):
        probability, left = 1.0, sum(weights)
        for slot in drawn:
            probability *= weights[slot] / left if weights[slot] else 0.0
            left -= weights[slot]
        for row, slot in enumerate(drawn):
            old, new = (held[slot] + 1) / 2, (arriving[row] + 1) / 2
            probabilities[row, slot] += probability * old / (old + new)
    return probabilities


def least_similar_by_enumeration(gradients: Sequence[Sequence[float]], m: int) -> float:
    """Aljundi et al. (2019), GSS-IQP: the least sum of cosines over all subsets of m gradients."""

    def cosine(a: Sequence[float], b: Sequence[float]) -> float:
        lengths = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0

    return min(
        sum(cosine(gradients[i], gradients[j]) for i in subset for j in subset)
        for subset in combinations(range(len(gradients)), m)
    )
