"""What holds of GEM's projection for any gradient and references."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avalanche_ext.functional import project_gradient
from tests.functional.projection.projection_cases import (
    EXACT_SOLVERS,
    SOLVERS,
    STRENGTHS,
    error,
    gaussian,
    tensors,
    worst_cosine,
)
from tests.oracles import diagonal_projection_by_loops, gem_projection_by_active_sets

# Eighths: inner products are exact, so that right angles and dependent references really occur.
EIGHTHS = st.integers(-32, 32).map(lambda k: k / 8)
GAMMAS = st.sampled_from(STRENGTHS)
EXACT = st.sampled_from(EXACT_SOLVERS)
ANY = st.sampled_from(SOLVERS)
few_examples = settings(max_examples=40, deadline=None)


@st.composite
def problems(draw, most_references=6, most_coordinates=6):
    """A gradient (P,) and references (T, P) in float64, often degenerate."""
    T, P = draw(st.integers(1, most_references)), draw(st.integers(1, most_coordinates))
    if draw(st.booleans()):
        return tensors(gaussian(T, P, draw(st.integers(0, 1000))))
    return tensors(
        (
            draw(arrays(np.float64, P, elements=EIGHTHS)),
            draw(arrays(np.float64, (T, P), elements=EIGHTHS)),
        )
    )


@st.composite
def problems_in_blocks(draw):
    """A problem and the sizes of its blocks."""
    g, G = draw(problems(5, 9))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(g) - 1)))) - {len(g)})
    return g, G, np.diff([0, *cuts, len(g)]).tolist()


def close(z, expected, g, relative=1e-9):
    return torch.linalg.vector_norm(z - expected) <= relative * max(
        torch.linalg.vector_norm(g), torch.linalg.vector_norm(expected)
    )


def same_bits(one, other):
    return one.numpy().tobytes() == other.numpy().tobytes()


@settings(max_examples=150, deadline=None)
@given(problems(), GAMMAS, EXACT)
def test_equals_the_oracle(problem, gamma, solver):
    g, G = problem
    expected = gem_projection_by_active_sets(g.numpy(), G.numpy(), gamma)
    z = project_gradient(g, G, gamma, solver)
    assert error(z, expected) <= 1e-6 * np.linalg.norm(g)


@few_examples
@given(problems(), GAMMAS, EXACT)
def test_what_is_found_is_feasible(problem, gamma, solver):
    g, G = problem
    assert worst_cosine(project_gradient(g, G, gamma, solver), G) >= -1e-6


@few_examples
@given(problems(), EXACT)
def test_projecting_again_changes_nothing_but_rounding(problem, solver):
    g, G = problem
    z = project_gradient(g, G, 0.0, solver)
    assert close(project_gradient(z, G, 0.0, solver), z, g)


@few_examples
@given(problems(), GAMMAS, ANY)
def test_nothing_changes_where_nothing_is_violated(problem, gamma, solver):
    g, G = problem
    G = torch.where((G @ g < 0)[:, None], -G, G)
    assert same_bits(project_gradient(g, G, gamma, solver), g)
    assert same_bits(project_gradient(g.float(), G.float() * 0, gamma, solver), g.float())


@few_examples
@given(problems(), GAMMAS, EXACT)
def test_dual_variables_are_at_least_the_memory_strength(problem, gamma, solver):
    g, G = problem
    z = project_gradient(g, G, gamma, solver)
    if bool((G @ g >= 0).all()):
        return
    added = (z - g - gamma * G.sum(0)).numpy()
    _, outside_the_cone = scipy.optimize.nnls(G.numpy().T, added)
    length = np.linalg.norm(g) + gamma * np.linalg.norm(G.sum(0).numpy())
    assert outside_the_cone <= 1e-9 * length
    # Nothing is spent on a reference that has room left.
    assert abs(z.numpy() @ added) <= 1e-9 * length**2


@few_examples
@given(problems(), GAMMAS, ANY)
def test_one_block_is_gem(problem, gamma, solver):
    g, G = problem
    assert same_bits(
        project_gradient(g, G, gamma, solver, blocks=[len(g)]),
        project_gradient(g, G, gamma, solver),
    )


@few_examples
@given(problems_in_blocks(), GAMMAS, ANY)
def test_each_block_is_a_problem_of_its_own(problem, gamma, solver):
    g, G, blocks = problem
    z = project_gradient(g, G, gamma, solver, blocks=blocks)
    alone = [
        project_gradient(part, references, gamma, solver)
        for part, references in zip(g.split(blocks), G.split(blocks, 1), strict=True)
    ]
    for block, expected in zip(z.split(blocks), alone, strict=True):
        assert close(block, expected, expected, 1e-12)


@few_examples
@given(problems_in_blocks(), GAMMAS, ANY, st.randoms(use_true_random=False))
def test_the_order_of_blocks_does_not_matter(problem, gamma, solver, random):
    g, G, blocks = problem
    order = random.sample(range(len(blocks)), len(blocks))
    parts, references = g.split(blocks), G.split(blocks, 1)
    z = project_gradient(g, G, gamma, solver, blocks=blocks).split(blocks)
    permuted = project_gradient(
        torch.cat([parts[i] for i in order]),
        torch.cat([references[i] for i in order], 1),
        gamma,
        solver,
        blocks=[blocks[i] for i in order],
    )
    expected = torch.cat([z[i] for i in order])
    assert close(permuted, expected, expected, 1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_block_without_violation_is_left_alone(solver):
    g, G = tensors(gaussian(5, 60))
    G[:, 20:40] *= torch.where(G[:, 20:40] @ g[20:40] < 0, -1, 1)[:, None]
    z = project_gradient(g, G, 0.5, solver, blocks=[20, 20, 20])
    assert same_bits(z[20:40], g[20:40])
    assert not torch.equal(z[:20], g[:20])
    assert not torch.equal(z[40:], g[40:])


@few_examples
@given(st.integers(1, 6), st.integers(0, 1000), GAMMAS)
def test_diagonal_is_exact_for_orthogonal_references(T, seed, gamma):
    g, G = gaussian(T, 8, seed)
    Q, _ = np.linalg.qr(G.T)
    g, G = tensors((g, Q.T * np.linspace(0.1, 3, T)[:, None]))
    exact, diagonal = (project_gradient(g, G, gamma, solver) for solver in ("exact", "diagonal"))
    assert close(diagonal, exact, g)


@few_examples
@given(problems_in_blocks(), GAMMAS)
def test_diagonal_equals_its_loops_in_each_block(problem, gamma):
    g, G, blocks = problem
    G[0] = 0
    z = project_gradient(g, G, gamma, "diagonal", blocks=blocks)
    expected = []
    for part, references in zip(g.split(blocks), G.split(blocks, 1), strict=True):
        expected += diagonal_projection_by_loops(part.tolist(), references.tolist(), gamma)
    torch.testing.assert_close(z, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@few_examples
@given(problems(), st.floats(1e-6, 1e6), GAMMAS, ANY)
def test_is_positively_homogeneous(problem, scale, gamma, solver):
    g, G = problem
    z = project_gradient(g, G, gamma, solver)
    assert close(project_gradient(scale * g, scale * G, gamma, solver) / scale, z, g)


@few_examples
@given(problems(), st.integers(0, 1000), EXACT)
def test_lengths_of_references_do_not_matter_without_memory_strength(problem, seed, solver):
    g, G = problem
    lengths = torch.as_tensor(10 ** np.random.default_rng(seed).uniform(-6, 6, len(G)))
    z = project_gradient(g, G, 0.0, solver)
    assert close(project_gradient(g, lengths[:, None] * G, 0.0, solver), z, g)


@few_examples
@given(problems(), GAMMAS, ANY, st.randoms(use_true_random=False))
def test_the_order_of_references_does_not_matter(problem, gamma, solver, random):
    g, G = problem
    z = project_gradient(g, G, gamma, solver)
    order = random.sample(range(len(G)), len(G))
    assert close(project_gradient(g, G[order], gamma, solver), z, g)


@few_examples
@given(problems_in_blocks(), GAMMAS, ANY)
def test_inputs_are_not_changed(problem, gamma, solver):
    g, G, blocks = problem
    before = g.clone(), G.clone()
    z = project_gradient(g, G, gamma, solver, blocks=blocks)
    assert same_bits(g, before[0])
    assert same_bits(G, before[1])
    z.zero_()
    assert same_bits(G, before[1])


@pytest.mark.parametrize("solver", SOLVERS)
def test_inputs_need_not_be_contiguous(solver):
    g, G = tensors(gaussian(5, 60))
    z = project_gradient(g[::3], G.T.contiguous().T[:, ::3], 0.5, solver)
    expected = project_gradient(g[::3].clone(), G[:, ::3].clone(), 0.5, solver)
    assert close(z, expected, g, 1e-12)
