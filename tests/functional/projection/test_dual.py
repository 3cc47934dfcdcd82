"""Quadratic programs over the non-negative orthant, one alone and in batches."""

import warnings

import numpy as np
import pytest
import quadprog
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from avalanche_ext.functional.projection import dual
from avalanche_ext.functional.projection.dual import block_pivoting, solve_dual

SOLVERS = ["exact", "quadprog", "pivoting"]
each_solver = pytest.mark.parametrize("solver", SOLVERS)
singular = pytest.mark.filterwarnings("ignore:(quadprog|block pivoting) rejected")

EIGHTHS = st.integers(-32, 32).map(lambda k: k / 8)


@pytest.fixture(autouse=True)
def _nothing_said_yet():
    dual._say_once.cache_clear()


def problem(n, P, seed=0):
    """K (n, n) and q (n,) of n random constraints in P dimensions; singular where n > P."""
    rng = np.random.default_rng([n, P, seed])
    G = rng.standard_normal((n, P))
    return G @ G.T, G @ rng.standard_normal(P)


def batch(problems):
    """Problems of any sizes as one batch, padded by zeros."""
    largest = max(len(q) for _, q in problems)
    gram, linear = np.zeros((len(problems), largest, largest)), np.zeros((len(problems), largest))
    for i, (K, q) in enumerate(problems):
        gram[i, : len(q), : len(q)], linear[i, : len(q)] = K, q
    return gram, linear


def one(K, q, solver="exact"):
    return solve_dual(K[None], q[None], solver)[0]


def value(K, q, w):
    return 0.5 * w @ K @ w + q @ w


def check_optimal(K, q, w, relative=1e-10):
    """The optimality conditions, relative to what is summed."""
    allowed = relative * (np.abs(q).max(initial=0) + np.abs(K) @ np.abs(w) + 1e-300)
    slack = K @ w + q
    assert (w >= 0).all()
    assert (slack >= -allowed).all()
    assert (np.abs(slack)[w > 1e-9 * w.max(initial=0)] <= 1e3 * allowed.max()).all()


def by_nnls(K, q):
    """The least value, by a factor of K."""
    eigenvalues, vectors = np.linalg.eigh(K)
    kept = eigenvalues > 1e-12 * eigenvalues.max()
    roots = np.sqrt(eigenvalues[kept])
    w, _ = scipy.optimize.nnls(roots[:, None] * vectors.T[kept], -(vectors.T[kept] @ q) / roots)
    return value(K, q, w)


@each_solver
def test_a_problem_solved_by_hand(solver):
    K = np.array([[4.0, -2.0, 0.0], [-2.0, 9.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(one(K, np.array([-4.0, 2.0, 5.0]), solver), [1, 0, 0], atol=1e-14)
    np.testing.assert_allclose(
        one(K, np.array([-4.0, 0.0, -3.0]), solver), [9 / 8, 1 / 4, 3], atol=1e-14
    )
    np.testing.assert_allclose(one(K, np.array([1.0, 0.0, 2.0]), solver), 0, atol=0)


@each_solver
def test_a_batch_is_each_problem_alone(solver):
    problems = [problem(n, 40, seed) for n in (1, 5, 12, 30) for seed in range(3)]
    solutions = solve_dual(*batch(problems), solver)
    assert solutions.shape == (12, 30)
    for (K, q), w in zip(problems, solutions, strict=True):
        np.testing.assert_allclose(w[: len(q)], one(K, q, solver), rtol=1e-9, atol=1e-12)
        assert not w[len(q) :].any(), "what pads a problem gets nothing"


@each_solver
def test_all_solvers_find_the_same(solver):
    for n, P in [(1, 3), (4, 10), (8, 8), (40, 60)]:
        K, q = problem(n, P)
        np.testing.assert_allclose(one(K, q, solver), one(K, q), rtol=1e-8, atol=1e-10)


@each_solver
@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1.0, 1e8, 1e140])
def test_the_scale_of_problems_does_not_matter(solver, scale):
    K, q = problem(6, 10)
    expected = one(K, q, solver)
    np.testing.assert_allclose(one(K, scale * q, solver) / scale, expected, rtol=1e-11)
    lengths = np.geomspace(1e-5, 1e5, 6)
    scaled = one(lengths[:, None] * K * lengths, lengths * q, solver)
    np.testing.assert_allclose(scaled * lengths, expected, rtol=1e-8, atol=1e-10)


@each_solver
def test_constraints_of_length_zero_get_nothing(solver):
    K, q = problem(6, 10)
    K[[1, 4]] = 0
    K[:, [1, 4]] = 0
    q[[1, 4]] = 0
    w = one(K, q, solver)
    rest = [0, 2, 3, 5]
    assert w[[1, 4]].tolist() == [0, 0]
    assert w[rest].any()
    np.testing.assert_allclose(w[rest], one(K[np.ix_(rest, rest)], q[rest], solver), rtol=1e-10)
    assert not one(np.zeros((3, 3)), np.zeros(3), solver).any()


@each_solver
@singular
def test_the_order_of_constraints_does_not_matter(solver):
    for n, P in [(6, 10), (30, 40), (12, 5)]:
        K, q = problem(n, P)
        w = one(K, q, solver)
        for seed in range(4):
            order = np.random.default_rng(seed).permutation(n)
            other = one(K[np.ix_(order, order)], q[order], solver)
            if n < P:
                np.testing.assert_allclose(other, w[order], rtol=1e-8, atol=1e-11)
            np.testing.assert_allclose(K[order] @ w, K[np.ix_(order, order)] @ other, atol=1e-9)


@each_solver
@singular
@pytest.mark.parametrize(("n", "P"), [(2, 1), (12, 5), (60, 20), (70, 69)])
def test_dependent_constraints(solver, n, P):
    for seed in range(4):
        K, q = problem(n, P, seed)
        w = one(K, q, solver)
        check_optimal(K, q, w)
        assert value(K, q, w) <= by_nnls(K, q) * (1 - 1e-9)


@each_solver
@singular
def test_equal_constraints_share_what_one_would_get(solver):
    K, q = problem(3, 10)
    twice = np.repeat(np.arange(3), 2)
    w = one(K[np.ix_(twice, twice)], q[twice], solver)
    np.testing.assert_allclose(w.reshape(3, 2).sum(1), one(K, q, solver), rtol=1e-8, atol=1e-11)


@singular
@pytest.mark.parametrize("P", [40, 400])
def test_hundreds_of_constraints_at_once(P):
    problems = [problem(300, P, seed) for seed in range(6)]
    for (K, q), w in zip(problems, solve_dual(*batch(problems)), strict=True):
        check_optimal(K, q, w)
        assert 0 < np.count_nonzero(w) < 300


@st.composite
def batches(draw):
    """Problems of one size with unit diagonals, often singular; K (B, n, n) and q (B, n)."""
    n_problems, n, P = (draw(st.integers(1, most)) for most in (3, 6, 6))
    G = draw(arrays(np.float64, (n_problems, n, P), elements=EIGHTHS))
    g = draw(arrays(np.float64, (n_problems, P), elements=EIGHTHS))
    lengths = np.linalg.norm(G, axis=2, keepdims=True)
    G = np.divide(G, lengths, out=np.zeros_like(G), where=lengths > 0)
    K = G @ G.transpose(0, 2, 1)
    np.einsum("bii->bi", K)[:] = 1.0
    return K, (G @ g[..., None])[..., 0]


@singular
@settings(max_examples=150, deadline=None)
@given(batches())
def test_block_pivoting_meets_the_optimality_conditions(problems):
    K, q = problems
    for matrix, vector, w in zip(K, q, block_pivoting(K, q), strict=True):
        check_optimal(matrix, vector, w)


def test_block_pivoting_does_not_go_in_circles():
    # Exchanging all that is wrong at once would never end here.
    G = np.array([[-1.0, -1.0, -3.0], [0.0, 0.0, 2.0], [-2.0, -1.0, 4.0]])
    K, q = G @ G.T, G @ np.array([4.0, 1.0, 3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_optimal(K, q, one(K, q, "pivoting"))


@settings(max_examples=60, deadline=None)
@given(batches(), st.sampled_from(SOLVERS))
def test_inputs_are_not_changed(problems, solver):
    before = [array.copy() for array in problems]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solve_dual(*problems, solver)
    for array, copy in zip(problems, before, strict=True):
        assert np.array_equal(array, copy)


class TestWhereASolverFails:
    def test_pivoting_solves_what_quadprog_rejects_and_says_so_once(self, monkeypatch):
        problems = [problem(5, 10, seed) for seed in range(3)]
        gram, linear = batch(problems)
        expected = solve_dual(gram, linear, "quadprog")
        solve_qp, second = quadprog.solve_qp, iter([False, True, False] * 2)

        def rejecting(*arguments):
            if next(second):
                raise ValueError("matrix G is not positive definite")
            return solve_qp(*arguments)

        monkeypatch.setattr(dual.quadprog, "solve_qp", rejecting)
        with pytest.warns(RuntimeWarning, match="quadprog failed.*block pivoting solved"):
            actual = solve_dual(gram, linear, "quadprog")
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solve_dual(gram, linear, "quadprog")

    def test_what_quadprog_gets_wrong_is_noticed(self, monkeypatch):
        K, q = problem(5, 10)
        expected = one(K, q)
        monkeypatch.setattr(dual.quadprog, "solve_qp", lambda *_: [np.ones(5)])
        with pytest.warns(RuntimeWarning, match="quadprog failed"):
            np.testing.assert_allclose(one(K, q, "quadprog"), expected, rtol=1e-9, atol=1e-12)

    def test_least_squares_solve_what_pivoting_cannot(self, monkeypatch):
        problems = [problem(6, 10), problem(6, 3)]
        monkeypatch.setattr(dual, "_solved_for", lambda free, K, q: np.zeros_like(q))
        solutions = solve_dual(*batch(problems), "pivoting")
        for (K, q), w in zip(problems, solutions, strict=True):
            check_optimal(K, q, w)
            assert w.any()

    def test_the_whole_chain(self, monkeypatch):
        K, q = problem(6, 10)
        expected = one(K, q)
        monkeypatch.setattr(dual.quadprog, "solve_qp", lambda *_: [np.ones(6)])
        monkeypatch.setattr(dual, "_solved_for", lambda free, K, q: np.zeros_like(q))
        with pytest.warns(RuntimeWarning) as said:
            np.testing.assert_allclose(one(K, q, "quadprog"), expected, rtol=1e-9, atol=1e-12)
        assert len(said) == 1

    @pytest.mark.parametrize(("n", "dimension"), [(100, 50), (100, 10), (300, 40)])
    def test_more_constraints_than_dimensions_take_few_exchanges(self, monkeypatch, n, dimension):
        solved_for, calls = dual._solved_for, []
        monkeypatch.setattr(dual, "_solved_for", lambda *a: calls.append(1) or solved_for(*a))
        K, q = problem(n, dimension)
        check_optimal(K, q, one(K, q, "pivoting"))
        assert len(calls) < 60
