"""Losses on representations: loops over listed pairs."""

from __future__ import annotations

from collections.abc import Sequence


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
