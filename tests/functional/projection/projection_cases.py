"""Gradients and references that the tests of GEM's projection share, and how answers are judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tests.oracles import Array, gem_projection_by_active_sets, gem_projection_by_nnls

EXACT_SOLVERS = ["exact", "quadprog", "pivoting"]
SOLVERS = [*EXACT_SOLVERS, "diagonal"]
STRENGTHS = [0.0, 0.1, 0.5, 2.0]

Problem = tuple[Array, Array]


def gaussian(T: int, P: int, seed: int = 0) -> Problem:
    """Nearly orthogonal references where P is large, about half of them violated."""
    rng = np.random.default_rng([T, P, seed])
    return rng.standard_normal(P), rng.standard_normal((T, P))


def half_space(T: int, P: int) -> Problem:
    """More references than coordinates, all on one side, and the gradient on the other."""
    g, G = gaussian(T, P)
    return g - 2 * np.ones(P), G + 2 * np.ones(P)


def nearly_collinear(T: int, P: int) -> Problem:
    """One reference with noise; the noise is scaled so that the Gram's condition is 1e10."""
    g, G = gaussian(T, P)
    base, noise = np.ones(P), G - G.mean(1, keepdims=True)
    smallest = np.linalg.svd(noise, compute_uv=False)[-1]
    return g - 0.5 * base, base + 1e-5 * np.sqrt(T * P) / smallest * noise


def nearly_opposite(T: int, P: int) -> Problem:
    """References that leave only a thin wedge of directions."""
    g, G = nearly_collinear(T, P)
    G[::2] *= -1
    return g, G


def geometric_spectrum(T: int, P: int) -> Problem:
    """Singular values from 1 to 1e-5."""
    g, G = gaussian(T, P)
    U, _, V = np.linalg.svd(G, full_matrices=False)
    return g, U * np.geomspace(1, 1e-5, T) @ V


def clusters(T: int, P: int) -> Problem:
    """Four references, each many times with a little noise."""
    g, G = gaussian(T, P)
    return g, G[np.arange(T) % 4] + 1e-4 * G


def duplicates(T: int, P: int) -> Problem:
    """Every reference several times."""
    g, G = gaussian(T, P)
    return g, G[np.arange(T) // 3]


def with_zeros(T: int, P: int) -> Problem:
    """Every other reference is zero."""
    g, G = gaussian(T, P)
    G[::2] = 0
    return g, G


def opposite(T: int, P: int) -> Problem:
    """References in pairs that only directions orthogonal to both satisfy."""
    g, G = gaussian(T, P)
    G[1::2] = -G[: 2 * (T // 2) : 2]
    return g, G


def all_equal(T: int, P: int) -> Problem:
    """One reference T times, at an obtuse angle to the gradient."""
    g, G = gaussian(T, P)
    G[:] = G[0]
    return g - 2 * G[0], G


def integers(T: int, P: int) -> Problem:
    """Small whole numbers: dependent references, right angles, zeros."""
    rng = np.random.default_rng([T, P])
    g, G = rng.integers(-2, 3, P), rng.integers(-1, 2, (T, P))
    G[:, 0] = 1
    return g.astype(np.float64), G.astype(np.float64)


SIZES: dict[Callable[[int, int], Problem], list[tuple[int, int]]] = {
    gaussian: [
        *[(1, 40), (2, 40), (5, 40), (20, 60), (100, 150), (300, 400)],
        *[(5, 2000), (5, 1), (20, 4), (300, 5)],
    ],
    half_space: [(2, 2), (5, 3), (20, 6), (100, 20), (300, 20)],
    nearly_collinear: [(2, 40), (5, 40), (20, 60), (100, 150), (300, 400)],
    nearly_opposite: [(2, 40), (5, 40), (20, 60)],
    geometric_spectrum: [(2, 40), (5, 40), (20, 60), (100, 150)],
    clusters: [(5, 40), (20, 60), (100, 150)],
    duplicates: [(2, 40), (5, 40), (20, 60), (300, 150)],
    with_zeros: [(1, 40), (3, 40), (5, 40), (20, 60), (100, 150)],
    opposite: [(2, 40), (5, 40), (20, 60), (20, 10)],
    all_equal: [(1, 1), (5, 1), (2, 40), (5, 40), (100, 150), (300, 40)],
    integers: [(5, 4), (20, 6), (100, 6), (300, 6)],
}
PROBLEMS = {
    f"{make.__name__.replace('_', ' ')} {T}x{P}": make(T, P)
    for make, sizes in SIZES.items()
    for T, P in sizes
}


def gem_projection(g: Array, G: Array, gamma: float) -> Array:
    """The oracle that the number of references allows."""
    by_active_sets = len(G) <= 5
    return (gem_projection_by_active_sets if by_active_sets else gem_projection_by_nnls)(
        g, G, gamma
    )


@cache
def answer(name: str, gamma: float) -> Array:
    """The oracle's answer to one of `PROBLEMS`, computed once."""
    return gem_projection(*PROBLEMS[name], gamma)


def worst_cosine(z: Array | Tensor, G: Array | Tensor) -> float:
    """The least cosine between z and a reference, in float64; 0 where z or all of G are zero."""
    z, G = np.asarray(z, dtype=np.float64), np.asarray(G, dtype=np.float64)
    lengths = np.linalg.norm(G, axis=1)
    if not z.any() or not lengths.any():
        return 0.0
    directions = G[lengths > 0] / lengths[lengths > 0, None]
    return float(min(directions @ (z / np.linalg.norm(z))))


def error(z: Tensor, expected: Array) -> float:
    """Distance to the oracle's answer, in float64."""
    assert z.shape == expected.shape
    return float(np.linalg.norm(z.double().numpy() - expected))


def allowed(g: Array, expected: Array, relative: float) -> float:
    """An error relative to the gradient, and to the answer unless cancellation made it tiny."""
    length, left = np.linalg.norm(g), np.linalg.norm(expected)
    return float(relative * (min(length, left) if left > 1e-3 * length else length))


def tensors(problem: Problem, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The problem as `project_gradient` takes it."""
    g, G = problem
    return torch.as_tensor(g).to(dtype, copy=True), torch.as_tensor(G).to(dtype, copy=True)
