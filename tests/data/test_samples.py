"""Datasets that share one tensor, whose rows become samples when they are read."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_ext.benchmarks import permuted_digits, rotated_digits
from avalanche_ext.data import InMemoryDataset, TensorLoader, fetch_all, samples
from avalanche_ext.data.samples import Shared, SharedRows
from tests.data.cases import assert_same, content

N = 40


class Counted:
    """Divides by 4 and turns samples around, and knows how many rows it has done that to."""

    def __init__(self) -> None:
        self.n_rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.n_rows += len(x)
        return (x / 4).flip(1)


def images() -> Tensor:
    return torch.arange(3 * N, dtype=torch.uint8).view(N, 3)


def dataset(slow: bool = False, rows: Any = None, shared: Shared | None = None) -> Any:
    shared = Shared(images()) if shared is None else shared
    rows = None if rows is None else torch.tensor(rows)
    n = N if rows is None else len(rows)
    y, t = torch.arange(n) % 4, torch.zeros(n, dtype=torch.int64)
    change = Counted()
    return InMemoryDataset(SharedRows(shared, rows, [change], slow), y, t), change


def stored(data: Any) -> InMemoryDataset:
    return InMemoryDataset((images() / 4).flip(1), data.y, data.t)


@pytest.fixture
def no_room(monkeypatch):
    for name in ("_SMALL", "_ROOM", "_ROOM_OF_SLOW"):
        monkeypatch.setattr(samples, name, 0)


@pytest.mark.parametrize("slow", [False, True])
def test_samples_are_those_that_would_be_stored(slow: bool) -> None:
    data, _ = dataset(slow)
    expected = stored(data)
    assert_same(data, expected)
    rows = torch.tensor([3, 1, 3])
    assert all(map(torch.equal, data.fetch(rows), expected.fetch(rows)))
    assert_same(data.subset([7, 2, 9]).subset([2, 0]), expected.subset([9, 7]))
    assert_same(data[3:9], expected[3:9])
    assert_same(data.subset([5]).concat(data), expected.subset([5]).concat(expected))
    assert_same(data.joined([data.subset([])]), expected)
    batches = zip(TensorLoader(data, 7), TensorLoader(expected, 7), strict=True)
    assert all(torch.equal(a[0], b[0]) for a, b in batches)


def test_a_batch_is_made_of_its_own_rows(no_room: None) -> None:
    data, change = dataset()
    data.fetch(torch.tensor([3, 1]))
    data.subset(range(10)).subset([1, 2, 3]).fetch(torch.tensor([2]))
    fetch_all(data.subset([4, 5]))
    assert change.n_rows == 2 + 1 + 2


def test_small_datasets_are_made_once() -> None:
    data, change = dataset()
    for _ in range(3):
        assert sum(len(y) for _, y, _ in TensorLoader(data.eval(), 7)) == N
    assert change.n_rows == 2 * N, "once to see whether there will be more"


def test_single_samples_are_read_from_what_is_kept(no_room: None) -> None:
    data, change = dataset()
    for i in range(N):
        assert data[i][1] == i % 4
    assert change.n_rows == N


def test_the_oldest_go_when_there_is_no_room(monkeypatch) -> None:
    monkeypatch.setattr(samples, "_ROOM_OF_SLOW", 2 * 4 * 3 * N)
    shared = Shared(images())
    made = [dataset(slow=True, shared=shared) for _ in range(3)]
    for data, _ in made:
        data.fetch(torch.tensor([0]))
    for data, _ in reversed(made):
        data.fetch(torch.tensor([0]))
    assert [change.n_rows for _, change in made] == [N + 1, N, N]
    del data, made
    assert shared.has_room(samples._ROOM // 4)


@pytest.mark.parametrize("slow", [False, True])
def test_datasets_without_room_for_all_are_made_once_when_read_in_turns(monkeypatch, slow) -> None:
    monkeypatch.setattr(samples, "_ROOM_OF_SLOW" if slow else "_ROOM", 2 * 4 * 3 * N)
    shared = Shared(images())
    made = [dataset(slow=slow, shared=shared) for _ in range(3)]
    for i in range(-N, N):
        for data, _ in made:
            assert torch.equal(data[i][0], (images()[i] / 4).flip(0))
    assert sum(change.n_rows for _, change in made) <= 3 * N + 2 * N
    assert all(len([*data]) == N for data, _ in made)


def test_what_is_fetched_may_be_written_to() -> None:
    data, _ = dataset()
    for rows in (torch.arange(5), slice(0, 5), slice(None)):
        data.fetch(rows)[0].zero_()
        data.fetch(torch.arange(5))
    assert_same(data, stored(data))


def test_x_is_one_tensor_that_may_be_written_to() -> None:
    data, _ = dataset()
    data.x[2] = 7
    assert data.x is data.x
    assert data[2][0].tolist() == [7, 7, 7]
    assert data.fetch(torch.tensor([2]))[0].tolist() == [[7, 7, 7]]
    for again in (data.subset([2]), pickle.loads(pickle.dumps(data))[2:3], data.to("cpu")[2:3]):
        assert content(again)[0][0] == [7, 7, 7]


def test_what_was_written_stays_when_others_take_the_room(monkeypatch) -> None:
    monkeypatch.setattr(samples, "_ROOM", 4 * 3 * N)
    shared = Shared(images())
    (data, _), (other, _) = (dataset(shared=shared) for _ in range(2))
    data[0]
    data.x[2] = 7
    other[0]
    assert data[2][0].tolist() == [7, 7, 7]


def test_pickled_and_copied_datasets_hold_their_own_rows_alone() -> None:
    shared = Shared(torch.zeros(10_000, 20, dtype=torch.uint8))
    part, _ = dataset(shared=shared, rows=[5, 6])
    assert len(pickle.dumps(part)) < 10_000
    labels = torch.zeros(10_000, dtype=torch.int64)
    wholes = [InMemoryDataset(SharedRows(shared, None, [Counted()]), labels, labels)] * 3
    one, three = (len(pickle.dumps([copy.copy(w) for w in wholes[:n]])) for n in (1, 3))
    assert three - one < 2 * 2 * 81_000, "labels only: what they share is there once"
    rows = SharedRows(Shared(torch.zeros(10_000, 3, dtype=torch.uint8)), None, [Counted()])
    before = len(pickle.dumps(rows))
    rows.one(0)
    assert len(pickle.dumps(rows)) < before + 1000, "what was made is left out"
    data, _ = dataset()
    data[0]
    for again in (pickle.loads(pickle.dumps(data.eval())), copy.deepcopy(data)):
        assert_same(again, stored(data))


@pytest.mark.parametrize("make", [permuted_digits, rotated_digits])
def test_experiences_share_the_images_of_the_data_set(make: Any) -> None:
    benchmark = make(4, train_size=100, test_size=50)
    for stream, n in ((benchmark.train_stream, 100), (benchmark.test_stream, 50)):
        held = {experience.dataset._x.shared.tensor.data_ptr() for experience in stream}
        assert len(held) == 1
        tensor = stream[0].dataset._x.shared.tensor
        assert (tensor.dtype, len(tensor)) == (torch.uint8, n)


def test_random_subsets_share_the_rows_that_any_of_them_has() -> None:
    benchmark = permuted_digits(3, train_size=400, subset="seed", test_size=10)
    held = benchmark.train_stream[0].dataset._x.shared.tensor
    assert 400 < len(held) <= 1200
    assert all(e.dataset._x.shared.tensor is held for e in benchmark.train_stream)
