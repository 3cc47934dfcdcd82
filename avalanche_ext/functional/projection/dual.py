"""Convex quadratic programs over the non-negative orthant: the duals of cone projections."""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache
from typing import Literal

import numpy as np
import quadprog
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
DualSolver = Literal["exact", "quadprog", "pivoting"]

# With n constraints, quadprog takes O(n³) plain steps, block pivoting a few vectorised ones.
_QUADPROG_UP_TO = 64
# Constraints are normalised to unit length, and products to at most 1. Rounding errors in a product
# are about 1e-16 Σ w: signs below the first value are rounding, and residuals above the second are
# wrong. The ridge must be well above rounding, or singular directions would be noise, and well
# below the smallest relevant eigenvalues, or removing it would take many refinements.
_TOLERANCE, _ACCEPTED, _RIDGE = 1e-15, 1e-12, 1e-12
_MOST_REFINEMENTS, _PATIENCE = 20, 4


def solve_dual(gram: Floats, linear: Floats, solver: DualSolver = "exact") -> Floats:
    """Minimise ½ wᵀKw + qᵀw subject to w ≥ 0, for a batch of problems.

    The problems are normalised, so that the scales of K, of q and of single constraints do not
    matter.

    Args:
        gram: K, (B, n, n), symmetric and positive semi-definite. A constraint of length zero has
            zeros in its row and column of K and in q, and gets the solution 0.
        linear: q, (B, n), in the range of K.
        solver: "quadprog", one problem after another (Goldfarb and Idnani 1983); "pivoting", all
            at once (block principal pivoting); "exact", whichever is faster for the size.

    Returns:
        w, (B, n). If quadprog fails, block pivoting is used instead, with a single warning.
    """
    if (linear >= 0).all():
        return np.zeros_like(linear)
    lengths = np.sqrt(np.einsum("bii->bi", gram))
    lengths[lengths == 0] = 1.0
    q = linear / lengths
    scale = np.abs(q).max(axis=1, keepdims=True, initial=0.0)
    scale[scale == 0] = 1.0
    K = gram / (lengths[:, :, None] * lengths[:, None, :])
    np.einsum("bii->bi", K)[:] = 1.0
    if solver == "exact":
        solver = "quadprog" if q.size <= _QUADPROG_UP_TO else "pivoting"
    solve = _by_quadprog if solver == "quadprog" else block_pivoting
    w: Floats = solve(K, q / scale) * scale / lengths
    return w


def block_pivoting(K: Floats, q: Floats) -> Floats:
    """Solve a batch of problems with K, (B, n, n), of unit diagonal and q, (B, n).

    Block principal pivoting (Portugal, Júdice and Vicente 1994) guesses which w are free, solves
    for them, and exchanges all wrong ones. A ridge makes K definite; a few steps of the
    proximal-point method remove its effect from the solution (Rockafellar 1976). If exchanging no
    longer helps, mostly for singular problems, non-negative least squares takes over.
    """
    n = q.shape[1]
    w, slack = np.zeros_like(q), q.copy()
    free = np.zeros(q.shape, dtype=bool)
    fewest = np.full(len(q), n + 1)
    patience = np.full(len(q), _PATIENCE)
    while True:
        wrong = np.where(free, w, slack) < -_TOLERANCE * (1 + np.abs(w).sum(axis=1, keepdims=True))
        n_wrong = wrong.sum(axis=1)
        patience = np.where(n_wrong < fewest, _PATIENCE, patience - 1)
        fewest = np.minimum(fewest, n_wrong)
        todo = np.flatnonzero((n_wrong > 0) & (patience > 0))
        if not len(todo):
            break
        free[todo] ^= wrong[todo]
        matrices = K if len(todo) == len(K) else K[todo]
        w[todo] = _solved_for(free[todo], matrices, q[todo])
        slack[todo] = _slack(matrices, q[todo], w[todo])
    for _ in range(_MOST_REFINEMENTS if free.any() else 0):
        before, w = w, _solved_for(free, K, q - _RIDGE * w)
        if np.abs(w - before).max() <= 1e-6 * np.abs(w).max():
            break
    w = np.maximum(w, 0.0)
    for problem in np.flatnonzero(~_is_solution(K, q, w)):
        w[problem] = _least_squares(K[problem], q[problem])
    return w


def _solved_for(free: Flags, K: Floats, q: Floats) -> Floats:
    """Return w, (B, n), with (K + ridge) w + q = 0 where w is free, and w = 0 elsewhere."""
    counts = free.sum(axis=1, keepdims=True)
    most = int(counts.max())
    order = np.argsort(~free, axis=1, kind="stable")[:, :most]
    inside = np.arange(most) < counts
    problem = np.arange(len(q))[:, None]
    minor = K[problem[:, :, None], order[:, :, None], order[:, None, :]]
    minor *= inside[:, :, None] & inside[:, None, :]
    np.einsum("bii->bi", minor)[:] = 1.0 + _RIDGE
    right = np.where(inside, -q[problem, order], 0.0)
    w = np.zeros_like(q)
    w[problem, order] = np.linalg.solve(minor, right[..., None])[..., 0]
    return w


def _by_quadprog(K: Floats, q: Floats) -> Floats:
    """Solve each problem by quadprog, or by block pivoting where quadprog fails."""
    n = q.shape[1]
    identity, zeros = np.eye(n), np.zeros(n)
    w = np.full_like(q, np.nan)
    for problem, (matrix, vector) in enumerate(zip(K, q, strict=True)):
        with suppress(ValueError):
            w[problem] = quadprog.solve_qp(matrix, -vector, identity, zeros)[0]
    # Up to rounding, either w or the slack is zero: the smaller of the two.
    w[w < _slack(K, q, w)] = 0.0
    missed = np.flatnonzero(~_is_solution(K, q, w))
    if len(missed):
        _say_once()
        w[missed] = block_pivoting(K[missed], q[missed])
    return w


def _least_squares(K: Floats, q: Floats) -> Floats:
    """Solve one problem as non-negative least squares on a factor of K, which may be singular."""
    from scipy.optimize import nnls

    eigenvalues, eigenvectors = np.linalg.eigh(K)
    kept = eigenvalues > len(q) * np.finfo(np.float64).eps
    roots, vectors = np.sqrt(eigenvalues[kept]), eigenvectors[:, kept]
    solution: Floats = nnls(roots[:, None] * vectors.T, -(vectors.T @ q) / roots)[0]
    return solution


def _slack(K: Floats, q: Floats, w: Floats) -> Floats:
    """Return the slack of each constraint, K w + q, (B, n)."""
    slack: Floats = np.matmul(K, w[..., None])[..., 0] + q
    return slack


def _is_solution(K: Floats, q: Floats, w: Floats) -> Flags:
    """Return which w satisfy the optimality conditions, min(w, K w + q) = 0, (B,)."""
    residual = np.minimum(w, _slack(K, q, w))
    allowed = _ACCEPTED * (1 + np.abs(w).sum(axis=1, keepdims=True))
    return np.asarray((np.abs(residual) <= allowed).all(axis=1))


@cache
def _say_once() -> None:
    warnings.warn(
        "quadprog failed on the dual problem of a projection, so block pivoting solved it instead "
        "(this warning appears once)",
        RuntimeWarning,
        stacklevel=2,
    )
