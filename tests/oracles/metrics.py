"""Metrics. R[i][j] is the accuracy on experience j after training on i; the last row is now."""

from __future__ import annotations

import math
from collections.abc import Sequence


def accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 2, over the experiences seen so far."""
    total = 0.0
    for j in range(len(R)):
        total += R[len(R) - 1][j]
    return total / len(R)


def instance_accuracy_by_loops(R: Sequence[Sequence[float]], sizes: Sequence[int]) -> float:
    """Right answers over answers, sample by sample of the experiences seen so far."""
    right = 0.0
    answers = 0
    for j in range(len(R)):
        for _ in range(sizes[j]):
            right += R[len(R) - 1][j]
            answers += 1
    return right / answers


def backward_transfer_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 3; at least two rows."""
    last = len(R) - 1
    total = 0.0
    for j in range(last):
        total += R[last][j] - R[j][j]
    return total / last


def forward_transfer_by_loops(R: Sequence[Sequence[float]], b: Sequence[float]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 4; at least two rows."""
    total = 0.0
    for j in range(1, len(R)):
        total += R[j - 1][j] - b[j]
    return total / (len(R) - 1)


def forgetting_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Forgetting as Chen et al. (2020) state it; at least two rows."""
    last = len(R) - 1
    total = 0.0
    for i in range(last):
        best = R[i][i]
        for j in range(i, last):
            if R[j][i] > best:
                best = R[j][i]
        total += best - R[last][i]
    return total / last


def intransigence_by_loops(R: Sequence[Sequence[float]], best: Sequence[float]) -> float:
    """Chaudhry et al. (2018), against given reference accuracies."""
    total = 0.0
    for i in range(len(R)):
        total += best[i] - R[i][i]
    return total / len(R)


def incremental_accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Rebuffi et al. (2017), the mean of ACC after each experience."""
    total = 0.0
    for i in range(len(R)):
        total += accuracy_by_loops([R[row] for row in range(i + 1)])
    return total / len(R)


def learning_accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Riemer et al. (2019)."""
    total = 0.0
    for i in range(len(R)):
        total += R[i][i]
    return total / len(R)


Point = tuple[int, int, Sequence[float]]
"""An experience, how many of its mini-batches have been learned, and accuracies so far."""


def anytime_accuracy_by_loops(points: Sequence[Point]) -> float:
    """Caccia et al. (2022): the mean of the mean accuracy on what has been seen."""
    total, n = 0.0, 0
    for k, b, accuracies in points:
        if b > 0:
            total += sum(accuracies[j] for j in range(k + 1)) / (k + 1)
            n += 1
    return total / n


def minimum_accuracy_by_loops(points: Sequence[Point]) -> float:
    """De Lange et al. (2023); at least two experiences."""
    last = points[-1][0]
    total = 0.0
    for i in range(last):
        lowest = 1.0
        for k, b, accuracies in points:
            if k > i and b > 0 and accuracies[i] < lowest:
                lowest = accuracies[i]
        total += lowest
    return total / last


def worst_case_accuracy_by_loops(points: Sequence[Point]) -> float:
    """De Lange et al. (2023); at least two experiences."""
    k = points[-1][0] + 1
    return points[-1][2][k - 1] / k + (1 - 1 / k) * minimum_accuracy_by_loops(points)


def stability_gap_by_loops(points: Sequence[Point]) -> float:
    """The fall below both ends of an experience that is evaluated inside, over all pairs."""
    total, n = 0.0, 0
    for k in range(1, points[-1][0] + 1):
        start = [accuracies for each, _, accuracies in points if each == k - 1][-1]
        inside = [accuracies for each, b, accuracies in points if each == k and b > 0]
        for i in range(k if len(inside) > 1 else 0):
            lowest = min(accuracies[i] for accuracies in inside)
            ends = min(start[i], inside[-1][i])
            total += ends - min(lowest, ends)
            n += 1
    return total / n if n else math.nan


def learning_curve_area_by_loops(points: Sequence[Point], every: int, beta: int) -> float:
    """Chaudhry et al. (2019), equations 4 and 5, over every n-th mini-batch up to beta."""
    total, n = 0.0, 0
    for b in range(0, beta + 1, every):
        own = [accuracies[k] for k, each, accuracies in points if each == b]
        total += sum(own) / len(own)
        n += 1
    return total / n
