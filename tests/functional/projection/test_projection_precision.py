"""GEM's projection in float32, at any scale of the gradients, and where little is left."""

import numpy as np
import pytest
import torch

from avalanche_ext.functional import project_gradient
from tests.functional.projection.projection_cases import (
    EXACT_SOLVERS,
    PROBLEMS,
    error,
    gaussian,
    gem_projection,
    integers,
    tensors,
    worst_cosine,
)

DTYPES = [torch.float32, torch.float64]
SCALES = [1e-8, 1e-4, 1.0, 1e4, 1e8]
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-6}


def check(problem, dtype, gamma, solver="exact", note=""):
    """Compare with the oracle of the problem as rounded to `dtype`."""
    g, G = tensors(problem, dtype)
    z = project_gradient(g, G, gamma, solver)
    rounded = g.double().numpy(), G.double().numpy()
    expected = gem_projection(*rounded, gamma)
    length = max(np.linalg.norm(rounded[0]), np.linalg.norm(expected))
    assert z.dtype == dtype
    assert error(z, expected) <= RELATIVE[dtype] * length, note
    assert worst_cosine(z, rounded[1]) >= -1e-6, note


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_float32_equals_the_oracle(solver, name):
    for gamma in (0.0, 0.5):
        check(PROBLEMS[name], torch.float32, gamma, solver)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_equals_the_oracle_at_any_scale(gamma, scale, dtype):
    for name, (g, G) in PROBLEMS.items():
        if len(G) <= 20:
            check((scale * g, scale * G), dtype, gamma, note=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_gradient_and_references_may_differ_in_scale(solver, scale, dtype):
    for T, P in [(1, 40), (5, 40), (20, 60)]:
        g, G = gaussian(T, P)
        check((scale * g, G), dtype, 0.0, solver)
        check((g, scale * G), dtype, 0.0, solver)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_references_may_differ_in_scale(solver, gamma, dtype):
    for name in ["gaussian 5x40", "gaussian 20x60", "gaussian 100x150", "clusters 20x60"]:
        g, G = PROBLEMS[name]
        for seed in range(3):
            exponents = np.random.default_rng(seed).uniform(-8, 8, (len(G), 1))
            check((g, G * 10**exponents), dtype, gamma, solver)


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_float32_with_many_coordinates(solver):
    g, G = gaussian(5, 100_000)
    check((g - 0.01 * G[0] + 0.1, 0.03 * G + 1), torch.float32, 0.0, solver)


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_a_small_angle_of_violation_may_be_far_from_the_cone(solver):
    # Only a wedge of 1e-4 is feasible; the cosines of the gradient with both references are -1e-7,
    # which in single precision passes for rounding.
    wedge = np.array([[1, 1e-4, 0], [-1, 1e-4, 0]])
    check((np.array([0, -1e-3, 1]), wedge), torch.float64, 0.0, solver)
    g = np.array([0, -1e-3, 1])
    in_single = project_gradient(*tensors((g, wedge), torch.float32), 0.0, solver)
    assert worst_cosine(in_single, wedge) >= -1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_a_thin_wedge_in_two_dimensions_is_left_to_zero(solver, dtype):
    references = np.array([[-1.8902, -43.2757], [1.7366, 39.7604], [1.6123, 36.9111]])
    check((np.array([-72.6467, -71.8668]), references), dtype, 0.0, solver)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("left", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-13])
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_little_is_left_of_the_gradient(solver, left, dtype):
    for T, P in [(1, 40), (2, 40), (5, 40), (20, 60), (60, 200), (60, 50)]:
        g, G = gaussian(T, P)
        check((-G[0] + left * g, G), dtype, 0.0, solver)
        check((-3 * G[-1] + left * g, G), dtype, 0.0, solver)
        weights = np.random.default_rng(T).uniform(0, 1, T)
        check((-weights @ G + left * g, G), dtype, 0.0, solver)


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_little_is_left_between_nearly_collinear_references(solver):
    for seed in range(480, 490):
        g, G = gaussian(3, 6, seed)
        G = 1 + 1e-4 * G
        weights = np.random.default_rng(seed).uniform(0, 1, 3)
        for left in (1e-7, 1e-8, 3e-9):
            problem = -weights @ G + left * g, G
            check(problem, torch.float64, 0.0, solver, note=f"{seed}, {left}")


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_what_little_is_left_is_right(solver):
    g, G = gaussian(5, 40)
    for left in (1e-2, 1e-3, 1e-4):
        problem = -G[0] - 2 * G[1] + left * g, G
        expected = gem_projection(*problem, 0.0)
        z = project_gradient(*tensors(problem), 0.0, solver)
        assert error(z, expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_nothing_is_left_of_a_gradient_opposite_to_a_reference(solver, scale, dtype):
    for T, P in [(1, 1), (1, 40), (2, 40), (5, 40), (20, 60), (20, 4)]:
        G = tensors(gaussian(T, P), dtype)[1] * scale
        for k in {0, T - 1}:
            assert not project_gradient(-G[k], G, 0.0, solver).any()
            assert not project_gradient(-0.25 * G[k], G, 0.0, solver).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [2.0**-27, 1.0, 2.0**27])
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_nothing_is_left_of_a_gradient_in_the_polar_cone(solver, scale, dtype):
    for T, P in [(2, 10), (5, 10), (20, 6), (20, 40)]:
        G = tensors(integers(T, P), dtype)[1] * scale
        weights = torch.arange(T, dtype=dtype) % 4  # whole numbers: the sum is exact
        z = project_gradient(-(weights @ G), G, 0.0, solver)
        assert not z.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("solver", EXACT_SOLVERS)
def test_nothing_is_left_where_no_other_direction_is_feasible(solver, scale, gamma, dtype):
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    for G in (axes, gaussian(20, 4)[1], gaussian(300, 5)[1]):
        g, G = tensors((scale * gaussian(1, G.shape[1])[0], scale * G), dtype)
        assert not project_gradient(g, G, gamma, solver).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_is_not_rounded_where_it_is_left(dtype):
    g, G = tensors(gaussian(5, 40), dtype)
    G[:, :20] = 0
    assert torch.equal(project_gradient(g, G)[:20], g[:20])
