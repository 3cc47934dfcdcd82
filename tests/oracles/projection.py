"""GEM's projection: argmin 1/2 ||g + G'v||^2 over v >= gamma, as z = g + G'v.

With v = gamma + w, z is the projection of g + gamma * (sum of G's rows) onto {z : G z >= 0}, and
neither that set nor the cone of the rows changes when the rows are divided by their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import scipy.optimize

from tests.oracles.arrays import Array


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


def agem_projection_by_loops(g: Sequence[float], r: Sequence[float]) -> list[float]:
    """Chaudhry et al. (2019), equation 11: the part along r is taken away if it opposes r."""
    inner = sum(a * b for a, b in zip(g, r, strict=True))
    if inner >= 0:
        return [*g]
    square = sum(b * b for b in r)
    return [a - inner / square * b for a, b in zip(g, r, strict=True)]


def orthogonal_projection_by_loops(
    g: Sequence[float], vectors: Sequence[Sequence[float]]
) -> list[float]:
    """Farajtabar et al. (2020), Algorithm 1: Gram-Schmidt, vector by vector, then g without it."""

    def without(a: Sequence[float], directions: Sequence[Sequence[float]]) -> list[float]:
        left = [*a]
        for v in directions:
            inner = sum(x * y for x, y in zip(left, v, strict=True))
            left = [x - inner * y for x, y in zip(left, v, strict=True)]
        return left

    basis: list[list[float]] = []
    for vector in vectors:
        length = sum(x * x for x in vector) ** 0.5
        left = without(without(vector, basis), basis)
        remains = sum(x * x for x in left) ** 0.5
        if remains > 1e-9 * length:
            basis.append([x / remains for x in left])
    return without(g, basis)
