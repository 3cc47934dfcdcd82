"""GEM's projection against its oracles, and the oracles against each other, in float64."""

import numpy as np
import pytest
import torch

from avalanche_ext.functional import project_gradient
from avalanche_ext.functional.projection.projection import project
from tests.functional.projection.projection_cases import (
    EXACT_SOLVERS,
    PROBLEMS,
    SOLVERS,
    STRENGTHS,
    allowed,
    answer,
    error,
    gaussian,
    tensors,
    worst_cosine,
)
from tests.oracles import (
    diagonal_projection_by_loops,
    gem_projection_by_active_sets,
    gem_projection_by_nnls,
)


@pytest.mark.parametrize("gamma", STRENGTHS)
def test_the_oracles_agree(gamma):
    few = {name: problem for name, problem in PROBLEMS.items() if len(problem[1]) <= 5}
    few |= {f"eight {seed}": gaussian(8, 6, seed) for seed in range(4)}
    for name, (g, G) in few.items():
        one = gem_projection_by_active_sets(g, G, gamma)
        other = gem_projection_by_nnls(g, G, gamma)
        assert np.linalg.norm(one - other) <= 1e-9 * np.linalg.norm(g), name


@pytest.mark.parametrize("name", ["nearly collinear", "nearly opposite", "geometric spectrum"])
def test_the_ill_conditioned_problems_are_so(name):
    for T in ("5x40", "20x60"):
        assert np.linalg.cond(PROBLEMS[f"{name} {T}"][1]) == pytest.approx(1e5, rel=0.1)


def test_the_oracles_know_an_answer_by_hand():
    g, G = np.array([-1.0, 2.0]), np.array([[2.0, 0.0], [0.0, 1.0]])
    for oracle in (gem_projection_by_active_sets, gem_projection_by_nnls):
        np.testing.assert_allclose(oracle(g, G, 0.0), [0, 2], atol=1e-15)
        np.testing.assert_allclose(oracle(g, G, 1.0), [1, 3], atol=1e-15)
        np.testing.assert_allclose(oracle(-G[0], G, 0.0), [0, 0], atol=1e-15)
    assert diagonal_projection_by_loops([-1, 2], [[1, 1], [2, 0]], 0.25) == [0.25, 2.25]


@pytest.mark.parametrize("solver", EXACT_SOLVERS)
@pytest.mark.parametrize("gamma", STRENGTHS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_equals_the_oracle(name, gamma, solver):
    g, G = PROBLEMS[name]
    z = project_gradient(*tensors((g, G)), gamma, solver)
    expected = answer(name, gamma)
    assert z.dtype == torch.float64
    assert error(z, expected) <= allowed(g, expected, 1e-6)
    assert worst_cosine(z, G) >= -1e-6


@pytest.mark.parametrize("gamma", STRENGTHS)
@pytest.mark.parametrize("T", [1, 2, 5, 20, 100, 300])
def test_the_exact_solvers_agree_on_well_conditioned_problems(T, gamma):
    g, G = tensors(gaussian(T, 4 * T))
    expected = project_gradient(g, G, gamma, "quadprog")
    for solver in ("pivoting", "exact"):
        z = project_gradient(g, G, gamma, solver)
        assert torch.linalg.vector_norm(z - expected) <= 1e-10 * torch.linalg.vector_norm(g)


def test_the_defaults_are_exact_without_memory_strength():
    g, G = tensors(gaussian(5, 40))
    assert torch.equal(project_gradient(g, G), project_gradient(g, G, 0.0, "exact"))
    assert torch.equal(project_gradient(g, G, 0.5), project_gradient(g, G, 0.5, "exact"))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("gamma", STRENGTHS)
def test_one_reference_by_hand(gamma, solver):
    z = project_gradient(*tensors((np.array([-1.0, 3.0]), np.array([[2.0, 0.0]]))), gamma, solver)
    expected = torch.tensor([-1 + 2 * max(gamma, 0.5), 3], dtype=torch.float64)
    torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("g", "expected"), [(-2.0, 0.0), (3.0, 3.0), (0.0, 0.0)])
def test_one_coordinate(g, expected, solver):
    z = project_gradient(torch.tensor([g]), torch.tensor([[4.0], [0.5]]), 0.0, solver)
    if solver == "diagonal" and g < 0:
        expected = 2.0  # each reference takes the whole of g away
    assert z.tolist() == [expected]


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_references_leave_the_gradient(solver):
    g = torch.tensor([1.0, -2.0])
    assert torch.equal(project_gradient(g, torch.empty(0, 2), 0.5, solver), g)
    assert torch.equal(project_gradient(g, torch.empty(0, 2), 0.5, solver, blocks=[1, 1]), g)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_right_angle_is_no_violation(solver):
    g, G = torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    assert torch.equal(project_gradient(g, G, 2.0, solver), g)


@pytest.mark.parametrize("solver", ["exact", "diagonal"])
def test_a_dual_variable_at_its_bound_is_not_active(solver):
    gradient = torch.tensor([-3.0, 1.0])
    references = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = project(gradient, references, 0.5, solver)
    assert found.violated.tolist() == [[True, False]]
    assert found.active.tolist() == [[True, False]]
