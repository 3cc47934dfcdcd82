"""Quadratic penalties' curvature: the matrix it represents, and how it is merged."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from tests.functional.fisher.curvature_cases import P, curvature, dense, dense_spectral, merged_of


def vector(seed=5):
    return torch.randn(P, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("diagonal", [True, False])
def test_products_penalty_and_trace_are_those_of_the_dense_matrix(k, diagonal):
    part, delta = curvature(k, diagonal=diagonal), vector()
    matrix = dense(part)
    torch.testing.assert_close(part.product(delta), matrix @ delta)
    torch.testing.assert_close(part.penalty(delta), 0.5 * delta @ matrix @ delta)
    assert part.trace == pytest.approx(float(matrix.trace()))


@pytest.mark.parametrize("k", [0, 3])
def test_the_product_is_the_gradient_of_the_penalty(k):
    part = curvature(k)
    delta = vector().requires_grad_()
    (gradient,) = torch.autograd.grad(part.penalty(delta), delta)
    torch.testing.assert_close(part.product(delta.detach()), gradient)


@pytest.mark.parametrize(("k", "diagonal"), [(0, True), (3, True), (3, False)])
def test_the_largest_is_at_most_the_largest_eigenvalue_and_equal_for_one_part_alone(k, diagonal):
    part = curvature(k, diagonal=diagonal)
    largest = float(torch.linalg.eigvalsh(dense(part))[-1])
    assert part.largest <= largest * (1 + 1e-12)
    if not (k and diagonal):
        assert part.largest == pytest.approx(largest)


def test_nothing_has_no_curvature():
    part = LowRankCurvature(None, torch.empty(0), torch.empty(0, P))
    assert part.largest == part.trace == 0
    assert part.product(torch.ones(P)).tolist() == [0.0] * P
    assert float(part.penalty(torch.ones(P))) == 0


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("rank", [0, 1, 3, 5, P])
def test_the_merge_is_the_dense_sum_truncated(decay, rank):
    old, new = curvature(3, 1, diagonal=False), curvature(4, 2, diagonal=False)
    total = decay * dense(old) + dense(new)
    values, vectors = torch.linalg.eigh(total)
    top = vectors[:, P - rank :] * values[P - rank :] @ vectors[:, P - rank :].T
    merged = merged_of(old, new, decay, rank)
    torch.testing.assert_close(dense(merged), top, atol=1e-12, rtol=1e-10)
    k = len(merged.eigenvalues)
    assert k == min(rank, 4 if decay == 0 else 7)
    identity = torch.eye(k, dtype=torch.float64)
    torch.testing.assert_close(merged.eigenvectors @ merged.eigenvectors.T, identity)
    assert (merged.eigenvalues.diff() <= 0).all()
    assert merged.diagonal is None


@pytest.mark.parametrize("rank", [0, 2, 7])
def test_the_diagonal_takes_the_diagonal_of_what_is_cut_off(rank):
    old, new = curvature(3, 1), curvature(4, 2)
    total = 0.9 * dense(old) + dense(new)
    merged = merged_of(old, new, 0.9, rank)
    torch.testing.assert_close(dense(merged).diagonal(), total.diagonal())
    without = dense_spectral(old) * 0.9 + dense_spectral(new)
    top = torch.linalg.eigvalsh(without).flip(0)[:rank]
    torch.testing.assert_close(merged.eigenvalues, top)


def test_diagonals_merge_as_a_discounted_sum():
    old, new = curvature(0, 1), curvature(0, 2)
    merged = merged_of(old, new, 0.95, 10)
    torch.testing.assert_close(merged.diagonal, 0.95 * old.diagonal + new.diagonal)
    assert merged.eigenvectors.shape == (0, P)


def test_merging_a_diagonal_with_directions_keeps_both():
    old, new = curvature(0, 1), curvature(2, 2, diagonal=False)
    merged = merged_of(old, new, 0.5, 2)
    torch.testing.assert_close(dense(merged), 0.5 * dense(old) + dense(new))


def test_the_same_directions_twice_only_grow():
    part = curvature(3, 1, diagonal=False)
    merged = merged_of(part, part, 0.5, P)
    assert len(merged.eigenvalues) == 3
    torch.testing.assert_close(merged.eigenvalues, 1.5 * part.eigenvalues)


def test_merging_nothing_with_nothing_gives_nothing():
    nothing = LowRankCurvature(None, torch.empty(0), torch.empty(0, P))
    merged = merged_of(nothing, nothing, 0.9, 5)
    assert merged.diagonal is None
    assert len(merged.eigenvalues) == 0


def test_a_merge_does_not_change_its_parts():
    old, new = curvature(3, 1), curvature(4, 2)
    before = dense(old).clone(), dense(new).clone()
    merged_of(old, new, 0.9, 2)
    torch.testing.assert_close((dense(old), dense(new)), before, rtol=0, atol=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, P), st.integers(0, P), st.integers(0, P), st.floats(0, 1), st.integers(0, 99))
def test_a_merge_with_residual_keeps_the_trace_in_float32(k_old, k_new, rank, decay, seed):
    old = curvature(k_old, seed, dtype=torch.float32)
    new = curvature(k_new, seed + 1, dtype=torch.float32)
    merged = merged_of(old, new, decay, rank)
    assert len(merged.eigenvalues) <= rank
    assert merged.trace == pytest.approx(decay * old.trace + new.trace, rel=1e-4)
    assert (merged.diagonal >= 0).all()


def test_of_a_spectrum_the_diagonal_is_what_the_directions_leave():
    whole = curvature(4, 3, diagonal=False)
    matrix = dense(whole)
    part = LowRankCurvature.of_spectrum(
        whole.eigenvalues[:2], whole.eigenvectors[:2], matrix.diagonal()
    )
    torch.testing.assert_close(dense(part).diagonal(), matrix.diagonal())
    rounded = LowRankCurvature.of_spectrum(
        whole.eigenvalues, whole.eigenvectors, matrix.diagonal() - 1e-9
    )
    assert (rounded.diagonal >= 0).all()


def test_scaling_scales_the_matrix():
    part = curvature(2)
    torch.testing.assert_close(dense(part.scaled(3.0)), 3 * dense(part))
    assert curvature(2, diagonal=False).scaled(2.0).diagonal is None


def test_placing_moves_parameters_and_leaves_new_ones_free():
    part = curvature(2)
    places = torch.tensor([4, 0, 1, -1, 10, 6, 7, 8, -1])
    placed = part.placed(places, {"weight": torch.Size([11])})
    stay = places >= 0
    expected = torch.zeros(11, 11, dtype=torch.float64)
    old = dense(part)[stay][:, stay]
    for i, row in zip(places[stay], old, strict=True):
        expected[i, places[stay]] = row
    torch.testing.assert_close(dense(placed), expected)
