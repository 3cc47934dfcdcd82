"""Statistics over seeds and experiments, by their definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction by its definition: Bonferroni's test of every subset of hypotheses.

    A hypothesis is rejected if all sets that it is in are; its p is the largest of theirs.
    """
    numbers = range(len(p_values))
    sets = [each for size in numbers for each in combinations(numbers, size + 1)]
    of_sets = {each: min(1.0, len(each) * min(p_values[i] for i in each)) for each in sets}
    return [max(p for each, p in of_sets.items() if i in each) for i in numbers]


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's test: the share of sign patterns with rank sums as far apart."""
    sizes = [abs(each) for each in differences if each]
    ranks_of_sizes = [len(sizes) + 1 - rank for rank in ranks(sizes)]

    def apart(signs: Sequence[int]) -> float:
        return abs(sum(s * r for s, r in zip(signs, ranks_of_sizes, strict=True)))

    seen = apart([1 if each > 0 else -1 for each in differences if each])
    all_signs = [*product((-1, 1), repeat=len(sizes))]
    return sum(apart(signs) >= seen for signs in all_signs) / len(all_signs)


def all_resampled_means(values: Sequence[float]) -> list[float]:
    """The mean of every resample that the bootstrap may draw; few values only."""
    return [float(np.mean(drawn)) for drawn in product(values, repeat=len(values))]


def resampled_means_of_means(strata: Sequence[Sequence[float]], n: int) -> list[float]:
    """The mean over strata of the means of resamples, n times, each stratum drawn for itself."""
    rng = np.random.default_rng(1)
    return [
        float(np.mean([np.mean(rng.choice(values, len(values))) for values in strata]))
        for _ in range(n)
    ]


def ranks(values: Sequence[float]) -> list[float]:
    """Places, 1 for the largest; who ties shares the mean of the places."""
    return [
        1 + sum(other > value for other in values) + (sum(o == value for o in values) - 1) / 2
        for value in values
    ]


def friedman_statistic(table: Sequence[Sequence[float]]) -> float:
    """Friedman's χ² of a table without ties, one row per experiment (Demšar, 2006)."""
    n, k = len(table), len(table[0])
    mean_ranks = [sum(column) / n for column in zip(*map(ranks, table), strict=True)]
    return 12 * n / (k * (k + 1)) * (sum(r**2 for r in mean_ranks) - k * (k + 1) ** 2 / 4)


def quantile_of_density(density: Callable[[float], float], share: float) -> float:
    """Quantile of a density on [0, 1] that need not be normalised, by small steps."""
    steps = 200_000
    middles = (np.arange(steps) + 0.5) / steps
    mass = np.cumsum([density(x) for x in middles])
    return float(middles[np.searchsorted(mass, share * mass[-1])])
