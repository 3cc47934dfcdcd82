"""Projection onto the orthogonal complement of output gradients, and the basis of these."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.functional.projection.orthogonal import (
    extended_basis,
    output_rows,
    project_orthogonally,
)
from tests.oracles import orthogonal_projection_by_loops


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def none(p, dtype=torch.float64):
    return torch.zeros(0, p, dtype=dtype)


def is_orthonormal(basis, atol):
    gram = basis @ basis.T
    return torch.allclose(gram, torch.eye(len(basis), dtype=basis.dtype), atol=atol)


@given(st.integers(1, 6), st.integers(0, 8), st.integers(0, 99))
def test_it_is_the_loops_projection(p, m, seed):
    g, vectors = drawn(p, seed=seed), drawn(m, p, seed=seed + 1)
    vectors[1::3] = 2 * vectors[:1]  # Dependent ones, and with m > p more than fit.
    found = project_orthogonally(g, extended_basis(none(p), vectors))
    expected = orthogonal_projection_by_loops(g.tolist(), vectors.tolist())
    torch.testing.assert_close(found, torch.tensor(expected, dtype=g.dtype), atol=1e-8, rtol=0)


def test_extending_twice_spans_the_same_and_keeps_what_is_there():
    vectors, g = drawn(12, 40), drawn(40, seed=1)
    first = extended_basis(none(40), vectors[:5])
    both = extended_basis(first, vectors[3:])
    assert torch.equal(both[:5], first)
    assert len(both) == 12
    at_once = extended_basis(none(40), vectors)
    torch.testing.assert_close(project_orthogonally(g, both), project_orthogonally(g, at_once))


def test_rows_stay_orthonormal_in_single_precision_when_vectors_are_nearly_alike():
    common = drawn(1, 5000, dtype=torch.float32)
    basis = none(5000, torch.float32)
    for task in range(5):
        vectors = common + 1e-3 * drawn(40, 5000, seed=task, dtype=torch.float32)
        basis = extended_basis(basis, vectors)
    assert len(basis) == 200
    assert is_orthonormal(basis, atol=1e-5)
    left = project_orthogonally(vectors, basis)
    assert left.norm(dim=1).max() < 1e-5 * vectors.norm(dim=1).min()


def test_the_length_of_a_vector_does_not_matter():
    vectors, lengths = drawn(3, 10), torch.tensor([1e-30, 1.0, 1e20], dtype=torch.float64)
    basis = extended_basis(none(10), lengths[:, None] * vectors)
    assert len(basis) == 3
    assert is_orthonormal(basis, atol=1e-12)


def test_nothing_and_zeros_add_nothing():
    basis = extended_basis(none(10), drawn(3, 10))
    for more in (none(10), torch.zeros(2, 10, dtype=torch.float64), basis[1:] * 3):
        assert torch.equal(extended_basis(basis, more), basis)
    g = drawn(10)
    assert torch.equal(project_orthogonally(g, none(10)), g)


def test_gradients_that_are_not_finite_are_refused():
    vectors = drawn(3, 4)
    vectors[1, 2] = torch.inf
    with pytest.raises(FloatingPointError, match="of the model's outputs is infinite or NaN"):
        extended_basis(none(4), vectors)


def test_rows_pick_the_label_the_mean_or_each_output():
    logits, y, place = drawn(2, 3), torch.tensor([0, 1, 2]), torch.tensor([2, 0])
    label = output_rows("label", y)(logits, place)
    assert label.tolist() == [[[0, 0, 1], [1, 0, 0]]]
    assert label.dtype == logits.dtype
    mean = output_rows("mean", y)(logits, place)
    torch.testing.assert_close((mean * logits).sum(2)[0], logits.mean(1))
    each = output_rows("all", y)(logits, place)
    torch.testing.assert_close((each * logits).sum(2), logits.T)
    with pytest.raises(ValueError, match="outputs='sum': must be one of label, mean, all"):
        output_rows("sum", y)
