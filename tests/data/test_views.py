"""Transforms of samples when they are fetched, which draw from generators of their own."""

from __future__ import annotations

import pickle
import random

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_ext.data import InMemoryDataset
from avalanche_ext.data.views import SampleTransforms, seeded_generators


def noisy(x: Tensor) -> Tensor:
    """Draws from all three global generators."""
    return x + torch.rand(()) + np.random.random() + random.random()  # noqa: NPY002


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def dataset(transforms: SampleTransforms, evaluation: SampleTransforms | None = None):
    y = torch.zeros(6, dtype=torch.int64)
    return InMemoryDataset(torch.arange(6.0)[:, None], y, y, transforms, evaluation)


def draws() -> list[float]:
    return [float(torch.rand(())), float(np.random.random()), random.random()]  # noqa: NPY002


def test_draws_of_others_stay_the_same() -> None:
    # A copy that was pickled must not draw from copies of the generators.
    data = pickle.loads(pickle.dumps(dataset(SampleTransforms([noisy], seed=1))))
    with seeded_generators([0]):
        expected = draws()
    with seeded_generators([0]):
        data.fetch(slice(None))
        assert data[0] is not None
        assert draws() == expected


def test_draws_are_fixed_by_the_seed_alone() -> None:
    first, second, other = (dataset(SampleTransforms([noisy], seed=seed)) for seed in (1, 1, 2))
    second = pickle.loads(pickle.dumps(second))
    with seeded_generators([0]):
        x = [first.fetch(slice(None))[0] for _ in range(2)]
    with seeded_generators([1]):
        assert all(torch.equal(each, second.fetch(slice(None))[0]) for each in x)
    assert not torch.equal(x[0], x[1]), "drawn anew at every fetch"
    assert not torch.equal(other.fetch(slice(None))[0], x[0])
    assert len(set((x[0][:, 0] - torch.arange(6.0)).tolist())) == 6, "each sample by itself"


def test_evaluation_view_and_changes() -> None:
    changes = [doubled]
    data = dataset(
        SampleTransforms([noisy], 0, changes), SampleTransforms([torch.neg], changes=changes)
    )
    assert data.eval().fetch(slice(None))[0][:, 0].tolist() == [0, -2, -4, -6, -8, -10]
    assert data.eval().subset([2])[0][0].tolist() == [-4]
    again = pickle.loads(pickle.dumps(data)).eval()
    assert again[2][0].tolist() == [-4]
    assert data.fetch(slice(None))[0][0] > 0


def test_each_worker_of_a_loader_draws_for_itself() -> None:
    data = dataset(SampleTransforms([noisy], seed=1))
    torch.manual_seed(0)
    loader = DataLoader(data, batch_size=3, num_workers=2)
    epochs = [torch.cat([x for x, _, _ in loader])[:, 0] - torch.arange(6.0) for _ in range(2)]
    assert len(set(torch.cat(epochs).round(decimals=4).tolist())) == 12
