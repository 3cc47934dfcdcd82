"""The subset of gradients with the smallest sum of cosines."""

import pytest
import torch

from avalanche_ext.functional.representation.selection import least_similar
from tests.oracles import least_similar_by_enumeration


def drawn(n, p, seed=0):
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def summed_cosines(gradients):
    directions = torch.nn.functional.normalize(gradients, dim=1)
    return float(directions.sum(0).square().sum())


@pytest.mark.parametrize(("n", "m", "p"), [(8, 3, 2), (8, 1, 4), (7, 7, 3), (9, 4, 30), (6, 5, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_best_of_all_subsets(n, m, p, seed):
    gradients = drawn(n, p, seed)
    found = least_similar(gradients, m)
    assert found.tolist() == sorted({*found.tolist()})
    assert len(found) == m
    expected = least_similar_by_enumeration(gradients.tolist(), m)
    assert summed_cosines(gradients[found]) == pytest.approx(expected, abs=1e-9)


def test_lengths_do_not_matter_and_zeros_count_as_nothing():
    gradients = drawn(7, 3)
    scaled = gradients * torch.logspace(-8, 8, 7, dtype=torch.float64)[:, None]
    assert torch.equal(least_similar(scaled, 3), least_similar(gradients, 3))
    gradients[2] = 0.0
    found = least_similar(gradients.float(), 4)
    expected = least_similar_by_enumeration(gradients.tolist(), 4)
    assert summed_cosines(gradients[found]) == pytest.approx(expected, abs=1e-6)


def test_none_and_all():
    gradients = drawn(4, 3)
    assert least_similar(gradients, 0).tolist() == []
    assert least_similar(gradients, 4).tolist() == [0, 1, 2, 3]
    assert least_similar(gradients[:0], 0).tolist() == []


def test_in_the_plane_it_prefers_samples_near_the_boundary_between_classes():
    """Gradients (p − y)(x, 1) of a linear classifier are alike within a class far from it.

    Chen, Diethe and Flach (2020, arXiv:2006.11234) hold this against maximal gradient diversity.
    """
    x = torch.cat([drawn(12, 2) + 1.5, drawn(12, 2, seed=1) - 1.5])
    y = torch.cat([torch.ones(12), torch.zeros(12)]).double()
    features = torch.cat([x, torch.ones(24, 1, dtype=torch.float64)], dim=1)
    scores = x.sum(1)
    gradients = (torch.sigmoid(scores) - y)[:, None] * features
    found = least_similar(gradients, 4)
    assert scores[found].abs().mean() < 0.6 * scores.abs().mean()
    assert 1 <= int(y[found].sum()) <= 3


def test_what_cannot_be_selected_is_named():
    with pytest.raises(ValueError, match="n_selected=5: must be from 0 to 4"):
        least_similar(drawn(4, 3), 5)
    with pytest.raises(FloatingPointError, match="a gradient is infinite or NaN"):
        least_similar(drawn(4, 3) / 0, 2)
