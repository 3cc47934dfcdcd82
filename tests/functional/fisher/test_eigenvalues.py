"""How eigenvalues fall: fits and shares against plain formulas."""

import math

import numpy as np
import pytest
import torch

from avalanche_ext.functional.fisher.eigenvalues import geometric_decay, share_of_largest


def test_the_line_is_that_of_least_squares():
    values = np.sort(np.random.default_rng(0).gamma(0.5, size=17))[::-1].copy()
    decay = geometric_decay(torch.from_numpy(values))
    steps, logs = np.arange(17), np.log(values)
    slope, _ = np.polyfit(steps, logs, 1)
    assert decay.slope == pytest.approx(slope, rel=1e-10)
    assert decay.r_squared == pytest.approx(np.corrcoef(steps, logs)[0, 1] ** 2, rel=1e-10)


def test_a_geometric_series_has_the_logarithm_of_its_ratio_and_no_rest():
    decay = geometric_decay(5.0 * 0.8 ** torch.arange(30, dtype=torch.float64))
    assert decay.slope == pytest.approx(math.log(0.8))
    assert decay.r_squared == pytest.approx(1.0)


def test_the_slope_does_not_depend_on_the_scale():
    values = torch.tensor([3.0, 1.0, 0.9, 0.1])
    assert geometric_decay(1e-6 * values).slope == pytest.approx(geometric_decay(values).slope)


def test_equal_eigenvalues_fall_by_nothing():
    assert geometric_decay(torch.full((5,), 0.3)) == (0.0, 1.0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_eigenvalues_have_no_line(n):
    assert geometric_decay(torch.ones(n)) is None


def test_shares_are_of_the_trace_not_of_what_is_given():
    values = torch.tensor([4.0, 2.0, 1.0])
    assert [share_of_largest(values, n, 10.0) for n in (0, 1, 2, 3, 9)] == [0.0, 0.4, 0.6, 0.7, 0.7]
