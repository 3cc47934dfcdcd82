"""Metrics. R[i][j] is the accuracy on experience j after training on i; the last row is now."""

from __future__ import annotations

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


def learning_accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Riemer et al. (2019)."""
    total = 0.0
    for i in range(len(R)):
        total += R[i][i]
    return total / len(R)
