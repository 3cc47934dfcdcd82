"""Slow, plain answers that the tests compare the package with."""

from __future__ import annotations

from collections.abc import Sequence

# ---- metrics: R[i][j] is the accuracy on experience j after training on i; the last row is now --


def accuracy_by_loops(R: Sequence[Sequence[float]]) -> float:
    """Lopez-Paz and Ranzato (2017), equation 2, over the experiences seen so far."""
    total = 0.0
    for j in range(len(R)):
        total += R[len(R) - 1][j]
    return total / len(R)


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


# ---- losses on representations: float64, loops over listed pairs --------------------------------


def discriminative_representation_loss_by_loops(
    h: Sequence[Sequence[float]], y: Sequence[int], alpha: float, normalisation: str
) -> float:
    """Chen, Diethe and Flach (2020): between-class and within-class inner products."""
    pairs = [(i, j) for i in range(len(y)) for j in range(len(y)) if i != j]
    sums, counts = {"between": 0.0, "within": 0.0}, {"between": 0, "within": 0}
    for i, j in pairs:
        kind = "within" if y[i] == y[j] else "between"
        sums[kind] += sum(a * b for a, b in zip(h[i], h[j], strict=True))
        counts[kind] += 1
    if normalisation == "batch":
        return (sums["between"] + alpha * sums["within"]) / len(y) ** 2
    return sums["between"] / max(1, counts["between"]) + alpha * sums["within"] / max(
        1, counts["within"]
    )


# ---- buffers: which arrivals are held, by plain lists -------------------------------------------


def ring_by_lists(groups: Sequence[int], max_size: int) -> list[int]:
    """Arrival numbers held by DRL's Algorithm 1: insert, then the oldest of the largest leaves."""
    held: list[int] = []
    for arrival, _ in enumerate(groups):
        held.append(arrival)
        if len(held) > max_size:
            sizes = {g: sum(groups[a] == g for a in held) for g in {groups[a] for a in held}}
            largest = max(sizes.values())
            # `held` is in order of arrival: the first member of any largest group leaves.
            held.remove(next(a for a in held if sizes[groups[a]] == largest))
    return held


def last_of_each_group(groups: Sequence[int], size: int) -> list[int]:
    """Arrival numbers held by GEM's memory: the last `size` of each group."""
    return [
        arrival
        for arrival, group in enumerate(groups)
        if sum(later == group for later in groups[arrival + 1 :]) < size
    ]
