"""The ρ-spectrum against loops, and what rank and scale do to it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.functional import rho_spectrum
from avalanche_ext.functional.representation.rho import rho_directions
from tests.oracles import rho_by_loops

EPSILON = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def with_dead(n_dead):
    """Thirty samples of twelve units, some of which are 0 for all."""
    x = drawn(30, 12).relu().float()
    x[:, :n_dead] = 0.0
    return x


@pytest.mark.parametrize("shape", [(30, 7), (7, 30), (5, 5), (2, 1), (1, 2)])
def test_equals_loops_over_singular_values(shape):
    x = drawn(*shape)
    assert rho_spectrum(x) == pytest.approx(rho_by_loops(x.numpy(), EPSILON[x.dtype]), rel=1e-9)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_is_never_negative_and_the_same_for_the_transpose(n, h, seed):
    x = drawn(n, h, seed=seed)
    rho = rho_spectrum(x)
    assert rho >= 0.0
    assert rho_spectrum(x.T) == pytest.approx(rho, rel=1e-9, abs=1e-12)


def test_directions_that_are_used_alike_give_zero():
    q, _ = torch.linalg.qr(drawn(20, 6))
    assert rho_spectrum(3.0 * q) == pytest.approx(0.0, abs=1e-12)


def test_a_hand_computed_spectrum():
    # Shares 1/2, 1/4, 1/4: (1/3) [log(2/3) + 2 log(4/3)].
    expected = (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3
    assert rho_spectrum(torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(expected)


def test_representations_are_not_centred():
    x = drawn(30, 4)
    assert rho_spectrum(x + 5.0) > rho_spectrum(x) + 0.1


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e200])
def test_the_scale_does_not_matter(scale):
    x = drawn(30, 7)
    assert rho_spectrum(scale * x) == pytest.approx(rho_spectrum(x), rel=1e-9)


def test_neither_order_nor_rotation_matters():
    x = drawn(30, 7)
    q, _ = torch.linalg.qr(drawn(7, 7, seed=1))
    rows = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert rho_spectrum(x[rows] @ q) == pytest.approx(rho_spectrum(x), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_directions_are_raised_to_the_precision_of_the_data(dtype):
    x = with_dead(4).to(dtype)
    found = rho_directions(x)
    assert (found.n_alive, found.n) == (8, 12)
    assert found.rho == pytest.approx(rho_by_loops(x.numpy(), EPSILON[dtype]), rel=1e-6)
    alive = rho_by_loops(x.numpy(), EPSILON[dtype], alive_only=True)
    assert found.alive_rho == pytest.approx(alive, rel=1e-6)
    assert found.alive_rho == pytest.approx(rho_spectrum(x[:, 4:]), rel=1e-9)


def test_each_dead_direction_raises_rho_by_much_and_leaves_the_others_number_alone():
    few, many = rho_directions(with_dead(2)), rho_directions(with_dead(5))
    assert many.rho - few.rho > 3 * math.log(1 / (12 * EPSILON[torch.float32])) / 12 * 0.8
    assert many.alive_rho == pytest.approx(few.alive_rho, abs=0.3)


def test_a_unit_that_copies_another_counts_as_a_dead_one():
    x = drawn(30, 6).float()
    copied = torch.cat([x, x[:, :2]], dim=1)
    assert rho_directions(copied).n_alive == 6
    assert rho_spectrum(copied) > rho_spectrum(x) + 2.0


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_one_sample_or_unit_has_zero(shape):
    assert rho_directions(drawn(*shape)) == (0.0, 0.0, 1, 1)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_a_spectrum_rho_is_nan(value):
    x = torch.zeros(4, 3)
    x[1, 1] = value
    found = rho_directions(x)
    assert math.isnan(found.rho)
    assert math.isnan(found.alive_rho)
    assert (found.n_alive, found.n) == (0, 3)


def test_nothing_is_differentiated_or_changed():
    x = drawn(6, 3).requires_grad_()
    before = x.detach().clone()
    rho_spectrum(x)
    assert torch.equal(x, before)
    assert x.grad is None


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(3), r"\(N, H\).*\(3,\)"),
        (torch.zeros(0, 3), r"at least 1.*\(0, 3\)"),
        (torch.ones(2, 3, dtype=torch.int64), "floating-point.*int64"),
    ],
)
def test_wrong_representations_are_named(x, words):
    with pytest.raises(ValueError, match=words):
        rho_spectrum(x)
