"""What is read from eigenpairs, against plain formulas and by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.measures import (
    effective_rank,
    geometric_decay,
    layer_curvature,
    layer_mass,
    share_of_largest,
)
from avalanche_ext.functional.fisher.spectrum import FisherSpectrum
from avalanche_ext.functional.model.gradients import FlatLayout


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


def test_shares_of_layers_by_hand():
    model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1, bias=False))
    layout = FlatLayout(model.named_parameters())
    vectors = torch.tensor([[0.6, 0, 0, 0, 0.8, 0], [0, 0, 0, 1, 0, 0], [0.0, 0, 0, 0, 0, 1]])
    found = FisherSpectrum(torch.tensor([5.0, 3.0, 2.0]), vectors, 20.0)
    assert layer_mass(found, layout) == pytest.approx({"0": 1.36 / 3, "1": 1.64 / 3})
    assert layer_curvature(found, layout) == pytest.approx({"0": 0.48, "1": 0.52})


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [
        ([2.0, 2.0, 2.0, 2.0], 4),
        ([3.0], 1),
        ([7.0, 0.0, 0.0], 1),
        ([4.0, 2.0, 2.0], 2**1.5),
        ([0.0, 0.0], 0),
        ([], 0),
    ],
)
def test_effective_rank_by_hand(eigenvalues, expected):
    assert effective_rank(torch.tensor(eigenvalues)) == pytest.approx(expected)
