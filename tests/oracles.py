"""Slow, plain answers that the tests compare the package with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import scipy.optimize

Array = npt.NDArray[np.float64]

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


# ---- GEM's projection: argmin 1/2 ||g + G'v||^2 over v >= gamma, as z = g + G'v -----------------
#
# With v = gamma + w, z is the projection of g + gamma * (sum of G's rows) onto {z : G z >= 0}, and
# neither that set nor the cone of the rows changes when the rows are divided by their lengths.


def _lower_bound_and_directions(g: Array, G: Array, gamma: float) -> tuple[Array, Array]:
    lengths = np.linalg.norm(G, axis=1)
    return g + gamma * G.sum(axis=0), G[lengths > 0] / lengths[lengths > 0, None]


def gem_projection_by_active_sets(g: Array, G: Array, gamma: float) -> Array:
    """Lopez-Paz and Ranzato (2017), equation 11, by trying every set of positive w; T <= 8."""
    if np.all(G @ g >= 0):
        return g.copy()
    start, directions = _lower_bound_and_directions(g, G, gamma)
    scale = max(float(np.linalg.norm(start)), np.finfo(np.float64).tiny)
    best, least = start, np.inf
    for size in range(len(directions) + 1):
        for active in combinations(range(len(directions)), size):
            A = directions[list(active)].T
            w, _, rank, _ = np.linalg.lstsq(A, -start)
            if rank < size:  # some linearly independent set gives the same answer
                continue
            Q, _ = np.linalg.qr(A)
            z = start - Q @ (Q.T @ start)
            z -= Q @ (Q.T @ z)
            violation = max(0.0, -min(w, default=0.0), -min(directions @ z)) / scale
            if violation < least:
                best, least = z, violation
    assert least < 1e-9, f"no set of active variables meets the optimality conditions: {least}"
    return best


def gem_projection_by_nnls(g: Array, G: Array, gamma: float) -> Array:
    """The same by Lawson and Hanson's non-negative least squares on the vectors themselves."""
    if np.all(G @ g >= 0):
        return g.copy()
    start, directions = _lower_bound_and_directions(g, G, gamma)
    scale = max(float(np.linalg.norm(start)), np.finfo(np.float64).tiny)
    w, _ = scipy.optimize.nnls(directions.T, -start / scale, maxiter=30 * len(directions))
    z: Array = start + scale * (w @ directions)
    violation = -min(directions @ z) / scale
    assert violation < 1e-9, f"the answer leaves the cone: {violation}"
    return z


def diagonal_projection_by_loops(
    g: Sequence[float], G: Sequence[Sequence[float]], gamma: float
) -> list[float]:
    """Off-diagonal products of the references ignored: v_k = max(gamma, -<g, g_k> / ||g_k||^2)."""

    def inner(a: Sequence[float], b: Sequence[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    z = list(g)
    if all(inner(g, reference) >= 0 for reference in G):
        return z
    for reference in G:
        if any(reference):
            v = max(gamma, -inner(g, reference) / inner(reference, reference))
            for i, x in enumerate(reference):
                z[i] += v * x
    return z
