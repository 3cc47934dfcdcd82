"""Moves in directions that belong to slots."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_ext.functional.lookahead.editing import randomly_moved

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def zeros(n, *shape):
    return torch.zeros(n, *shape, dtype=torch.float64)


def directions(slots, shape=(6,), seed=0):
    """(n, D), of length 1."""
    return randomly_moved(zeros(len(slots), *shape), slots, 1.0, seed).flatten(1)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(1, 5), st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_every_example_moves_by_the_stride(shape, n, seed, stride):
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = randomly_moved(x, range(n), stride, seed)
    assert moved.shape == x.shape
    lengths = (moved - x).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, stride), rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.lists(st.integers(0, 10**6), min_size=1, max_size=5), st.integers(0, 2**31))
def test_a_slot_has_its_direction_wherever_and_whenever_it_is_drawn(shape, slots, seed):
    first = directions(slots, shape, seed)
    others = directions([7, *reversed(slots)], shape, seed)
    torch.testing.assert_close(others[1:].flip(0), first, atol=0, rtol=0)


def test_other_slots_and_seeds_have_other_directions():
    rows = torch.cat([directions(range(20), seed=seed) for seed in range(20)])
    cosines = rows @ rows.T - torch.eye(400, dtype=rows.dtype)
    assert cosines.abs().max() < 0.9999


def test_directions_are_uniform_in_a_cube_before_they_are_scaled():
    """In the plane the angles of a square's points bunch towards its corners as known."""
    n = 4000
    x, y = directions(range(n), shape=(2,)).T
    angles = torch.atan2(y, x) % (math.pi / 2)
    # Within 0.2 of a diagonal lies the share of the square between two lines through its centre.
    share = 1 - math.tan(math.pi / 4 - 0.2)
    near = ((angles - math.pi / 4).abs() < 0.2).double().mean().item()
    assert near == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n))
    for quadrant in ((x > 0) & (y > 0), (x > 0) & (y < 0), (x < 0) & (y > 0), (x < 0) & (y < 0)):
        assert quadrant.double().mean().item() == pytest.approx(0.25, abs=5 * 0.433 / math.sqrt(n))


def test_coordinates_are_neither_biased_nor_correlated():
    n, D = 3000, 5
    rows = directions(range(n), shape=(D,))
    torch.testing.assert_close(
        rows.mean(0), torch.zeros(D, dtype=rows.dtype), atol=5 / math.sqrt(D * n), rtol=0
    )
    covariance = rows.T @ rows / n
    expected = torch.eye(D, dtype=rows.dtype) / D
    torch.testing.assert_close(covariance, expected, atol=5 * 0.3 / math.sqrt(n), rtol=0)


@pytest.mark.parametrize("shape", [(6,), (1, 3, 3)])
def test_each_example_may_have_a_stride_of_its_own(shape):
    strides = torch.tensor([0.0, 0.5, 2.0])
    moved = randomly_moved(zeros(3, *shape), [4, 4, 4], strides, 0).flatten(1)
    torch.testing.assert_close(moved.norm(dim=1), strides.double())
    torch.testing.assert_close(4 * moved[1], moved[2])


def test_bounds_hold():
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    free = randomly_moved(x, range(50), 2.0, 0)
    moved = randomly_moved(x, range(50), 2.0, 0, (0.0, 1.0))
    assert torch.equal(moved, free.clamp(0, 1))
    assert (moved.min().item(), moved.max().item()) == (0, 1)


def test_what_is_given_and_the_global_generators_are_left_alone():
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    before, drawn = x.clone(), torch.get_rng_state()
    moved = randomly_moved(x, [0, 1, 2], 1.0, 0)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert moved.dtype == torch.float32


def test_a_stride_of_zero_moves_nothing():
    x = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(randomly_moved(x, [0, 1, 2], 0.0, 0), x)
