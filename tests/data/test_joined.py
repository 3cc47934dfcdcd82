"""Datasets joined without a copy of their samples: as from one tensor, in little memory."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from avalanche_ext.benchmarks import permuted_digits
from avalanche_ext.benchmarks.build import iid_stream
from avalanche_ext.data import InMemoryDataset, joined
from avalanche_ext.data.samples import Shared, SharedRows
from tests.data.cases import assert_same

ROWS = torch.tensor([70, 3, 3, 101, 39, 40, 0])


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> list[InMemoryDataset]:
    """Three permutations of 40 digits, which are too large to be copied."""
    monkeypatch.setattr(joined, "_LARGE", 0)
    monkeypatch.setattr(joined, "_SMALL", 0)
    stream = permuted_digits(n_experiences=3, train_size=40, test_size=10).train_stream
    return [experience.dataset for experience in stream]


def copied(parts: list[InMemoryDataset]) -> InMemoryDataset:
    x, y, t = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "y", "t"))
    return InMemoryDataset(x, y, t)


def test_samples_are_those_of_one_tensor(digits: list[InMemoryDataset]) -> None:
    whole = digits[0].joined(digits[1:])
    expected = copied(digits)
    assert_same(whole, expected)
    assert_same(whole.subset(ROWS), expected.subset(ROWS))
    assert_same(whole.subset(ROWS).subset([2, 0]), expected.subset([3, 70]))
    assert torch.equal(whole[-1][0], expected[-1][0])
    for rows in (ROWS, slice(35, 90, 7), ROWS[:0]):
        assert all(map(torch.equal, whole.fetch(rows), expected.fetch(rows)))


def test_one_after_another_is_as_all_at_once(digits: list[InMemoryDataset]) -> None:
    assert_same(digits[0].concat(digits[1]).concat(digits[2]), copied(digits))


def test_pickled_and_restored(digits: list[InMemoryDataset]) -> None:
    whole = digits[0].joined(digits[1:]).subset(ROWS)
    assert_same(pickle.loads(pickle.dumps(whole)), copied(digits).subset(ROWS))


def test_pickled_with_the_rows_in_use_and_shared_images_once(
    digits: list[InMemoryDataset],
) -> None:
    whole = digits[0].joined(digits[1:])
    for data, n_images in ((whole, 40), (whole.subset(ROWS), 6)):
        labels_and_places = 3 * 8 * len(data)
        assert len(pickle.dumps(data)) < 64 * n_images + labels_and_places + 9_000


def test_writing_to_x_changes_the_samples(digits: list[InMemoryDataset]) -> None:
    whole = digits[0].joined(digits[1:])
    kept = digits[0].fetch(ROWS[1:3])[0]
    whole.x[3] = 7.0
    assert bool((whole.fetch(ROWS)[0][1] == 7).all())
    assert bool((whole.subset([3]).x == 7).all())
    assert torch.equal(digits[0].fetch(ROWS[1:3])[0], kept)


def test_a_mixed_stream_is_the_same(
    digits: list[InMemoryDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = permuted_digits(n_experiences=3, train_size=40, test_size=10)
    views = [e.dataset for e in iid_stream(benchmark, 2, 0).train_stream]
    monkeypatch.undo()
    for view, copy in zip(views, iid_stream(benchmark, 2, 0).train_stream, strict=True):
        assert_same(view, copy.dataset)


def test_few_rows_are_a_copy(
    digits: list[InMemoryDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digits[0].joined(digits[1:])
    expected = copied(digits).subset(ROWS)
    monkeypatch.setattr(joined, "_SMALL", 2**24)
    few = whole.subset(ROWS)
    assert_same(few, expected)
    few.x[0] = 7.0
    assert bool((few.fetch(slice(None))[0][0] == 7).all())
    assert torch.equal(whole.fetch(ROWS)[0], expected.x)


class AsFloats:
    """Divides by 255, and knows how many rows it has done that to."""

    def __init__(self) -> None:
        self.n_rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.n_rows += len(x)
        return x / 255


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_mini_batch_computes_only_its_own_samples(one_by_one: bool) -> None:
    images = torch.randint(256, (24_000, 1, 28, 28), dtype=torch.uint8)
    change, shared = AsFloats(), Shared(images)
    labels = torch.zeros(len(images), dtype=torch.int64)
    parts = [InMemoryDataset(SharedRows(shared, None, [change]), labels, labels)] * 8
    if one_by_one:
        whole = parts[0].joined(parts[1:4])
        for part in parts[4:]:
            whole = whole.concat(part)
    else:
        whole = parts[0].joined(parts[1:])
    rows = torch.tensor([191_999, 5, 90_000])
    assert torch.equal(whole.subset(rows).fetch(slice(None))[0], images[rows % 24_000] / 255)
    assert change.n_rows == 3
