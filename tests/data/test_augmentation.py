"""Random transforms of in-memory datasets: redrawn each time, and only in the training view."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset

from tests.data.cases import N, content, dataset, negated


class TestAugmentation:
    data = dataset(transform=negated)
    clean, augmented = (
        content(dataset()),
        [[[-1 - v for v in x], y, t] for x, y, t in content(dataset())],
    )

    def test_only_in_the_training_view(self) -> None:
        assert content(self.data) == self.augmented
        assert content(self.data.train()) == self.augmented
        assert content(self.data.eval()) == self.clean
        assert content(self.data.eval().train()) == self.augmented

    def test_view_survives_operations(self) -> None:
        view = self.data.eval()
        assert content(view.subset([1])) == self.clean[1:2]
        assert content(view[:2].train()) == self.augmented[:2]
        assert content(view.concat(self.data)) == 2 * self.clean
        assert content(self.data.concat(view)) == 2 * self.augmented

    @pytest.mark.parametrize("rows", [slice(None), torch.arange(N)])
    def test_fetching_a_batch(self, rows: Any) -> None:
        assert self.data.fetch(rows)[0].tolist() == [x for x, _, _ in self.augmented]
        assert self.data.eval().fetch(rows)[0].tolist() == [x for x, _, _ in self.clean]

    def test_is_seen_through_avalanches_own_wrapping(self) -> None:
        assert [x.tolist() for x, *_ in AvalancheDataset([self.data])] == [
            x for x, _, _ in self.augmented
        ]
        assert [x.tolist() for x, *_ in AvalancheDataset([self.data.eval()])] == [
            x for x, _, _ in self.clean
        ]

    def test_replacing_it(self) -> None:
        replaced = self.data.replace_current_transform_group(lambda x: x + 100)
        assert content(replaced) == [[[v + 100 for v in x], y, t] for x, y, t in self.clean]
        assert content(replaced.eval()) == self.clean
        assert content(self.data) == self.augmented

    def test_removing_and_freezing_it(self) -> None:
        assert content(self.data.remove_current_transform_group()) == self.clean
        frozen = self.data.freeze_transforms()
        assert content(frozen.remove_current_transform_group()) == self.augmented

    def test_is_redrawn_at_every_fetch(self) -> None:
        noisy = dataset(transform=lambda x: x + torch.rand(3))
        first, second = (noisy.fetch(slice(None))[0] for _ in range(2))
        assert not torch.equal(first, second)
        noise = first - noisy.x
        assert len(torch.unique(noise, dim=0)) == N, "each sample has a draw of its own"


def test_a_transform_in_place_of_none() -> None:
    replaced = dataset().replace_current_transform_group(negated)
    assert content(replaced) == content(dataset(transform=negated))
