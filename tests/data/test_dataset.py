"""InMemoryDataset: what Avalanche and users do with a dataset."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_ext.data import InMemoryDataset
from tests.cases import plain_dataset
from tests.data.cases import N, assert_same, columns, content, dataset, negated


def test_samples_are_those_of_avalanches_dataset() -> None:
    assert_same(dataset(), plain_dataset(*columns()))
    x, y, t = columns()
    fetched = dataset().fetch(torch.tensor([3, 1, 3]))
    assert all(
        torch.equal(column, whole[[3, 1, 3]])
        for column, whole in zip(fetched, (x, y, t), strict=True)
    )


def test_tensors_are_the_ones_given() -> None:
    x, y, t = columns()
    data = InMemoryDataset(x, y, t)
    assert data.x is x
    assert data.y is y
    assert data.t is t


@pytest.mark.parametrize(
    ("x", "y", "t", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2).long(), torch.zeros(3).long(), "have 3, 2 and 3"),
        (torch.zeros(2, 2), torch.zeros(2), torch.zeros(2).long(), "y must be .* torch.float32"),
        (torch.zeros(2), torch.zeros(2).long(), torch.zeros(2, 1).long(), r"t must be .* \(2, 1\)"),
    ],
)
def test_unaligned_or_mistyped_columns_are_refused(
    x: Tensor, y: Tensor, t: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        InMemoryDataset(x, y, t)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("subset"), st.lists(st.integers(0, 10**6), min_size=1, max_size=20)),
        st.tuples(st.just("slice"), st.slices(N)),
        st.tuples(st.just("concat"), st.integers(1, 5)),
        st.tuples(st.just("prepend"), st.integers(1, 5)),
        st.tuples(st.just("read"), st.none()),
    ),
    max_size=8,
)


@given(steps)
def test_chains_of_operations_do_what_lists_do(chain: list[tuple[str, Any]]) -> None:
    data, expected = dataset(), content(dataset())
    for step, value in chain:
        if step == "subset" and expected:
            rows = [i % len(expected) for i in value]
            data, expected = data.subset(rows), [expected[i] for i in rows]
        elif step == "slice":
            data, expected = data[value], expected[value]
        elif step == "concat":
            data, expected = data.concat(dataset(value)), expected + content(dataset(value))
        elif step == "prepend":
            data, expected = dataset(value).concat(data), content(dataset(value)) + expected
        elif step == "read":
            assert len(data.x) == len(expected)
    assert isinstance(data, InMemoryDataset)
    assert content(data) == expected
    assert list(data.targets) == [y for _, y, _ in expected]
    assert list(data.targets_task_labels) == [t for _, _, t in expected]


@pytest.mark.parametrize(
    "indices",
    [
        [2, 0],
        (2, 0),
        range(2, 5),
        iter([2, 0]),
        torch.tensor([2, 0]),
        torch.tensor([2.0, 0.0]).numpy().astype("int64"),
        [],
    ],
    ids=lambda indices: type(indices).__name__,
)
def test_subset_takes_any_kind_of_indices(indices: Any) -> None:
    rows = [2, 0] if type(indices).__name__ == "list_iterator" else [int(i) for i in indices]
    subset = dataset().subset(indices)
    assert content(subset) == [content(dataset())[i] for i in rows]


def test_thousands_of_unread_operations_can_be_read() -> None:
    x, y, t = columns(1000)
    data = InMemoryDataset(x, y, t).subset([0])
    for i in range(3000):
        data = InMemoryDataset(x, y, t).subset([i % 1000]).concat(data).subset([0, 1])
    assert data.x.tolist() == x[[999, 998]].tolist()


def test_chains_let_go_of_what_they_no_longer_hold() -> None:
    data = dataset()
    source = weakref.ref(data.x)
    for _ in range(20):
        data = dataset().concat(data).subset(range(N))
    assert source() is None
    assert_same(data, dataset())


def test_operations_are_lazy_until_read(monkeypatch: pytest.MonkeyPatch) -> None:
    big = dataset(100)
    subset = big.subset(range(50)).concat(big)

    def refuse(*args: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(torch, "cat", refuse)
    assert len(subset) == 150
    assert subset.train() is not subset
    with pytest.raises(AssertionError, match="read"):
        _ = subset.x
    monkeypatch.undo()
    assert len(subset.x) == 150


def test_reading_once_is_enough() -> None:
    subset = dataset().subset([1, 2])
    assert subset.x is subset.x
    assert subset.train().x is subset.x


def test_pickled_size_is_that_of_the_content() -> None:
    x = torch.rand(10_000, 20)
    whole = InMemoryDataset(x, torch.zeros(10_000).long(), torch.zeros(10_000).long())
    for part in (whole.subset(range(10)), whole[:10], InMemoryDataset(x[:10], *columns(10)[1:])):
        pickled = pickle.dumps(part)
        assert len(pickled) < 10_000
        assert_same(pickle.loads(pickled), part)


def test_pickle_and_deepcopy_keep_view_and_augmentation() -> None:
    data = dataset(transform=negated)
    for again in (pickle.loads(pickle.dumps(data.eval())), copy.deepcopy(data.eval())):
        assert_same(again, dataset())
        assert_same(again.train(), data)


def test_a_shallow_copy_shares_its_tensors() -> None:
    data = dataset()
    assert copy.copy(data).x is data.x


def test_concat_with_an_empty_dataset_changes_nothing() -> None:
    data = dataset()
    assert data.concat(AvalancheDataset([])) is data
    assert data.concat(data.subset([])) is data
    assert_same(data.subset([]).concat(data), data)


@pytest.mark.parametrize("in_memory_first", [True, False])
def test_concat_with_a_plain_dataset_gives_a_plain_one(in_memory_first: bool) -> None:
    ours, plain = dataset(transform=negated), plain_dataset(*columns(5))
    data = ours.concat(plain) if in_memory_first else plain.concat(ours)
    parts = [ours, plain] if in_memory_first else [plain, ours]
    assert not isinstance(data, InMemoryDataset)
    assert content(data) == [sample for part in parts for sample in content(part)]
    unaugmented = [sample for part in parts for sample in content(part.eval())]
    assert content(data.eval()) == unaugmented
    assert list(data.targets) == [y for _, y, _ in unaugmented]


def test_concat_of_different_augmentations_keeps_both() -> None:
    data = dataset(transform=negated).concat(dataset())
    assert content(data) == content(dataset(transform=negated)) + content(dataset())
    assert content(data.eval()) == 2 * content(dataset())


def test_constant_task_labels_can_be_joined_with_those_avalanche_makes() -> None:
    """Avalanche's own memories, such as iCaRL's, have task labels of a special kind."""
    from avalanche.benchmarks.utils.classification_dataset import (
        _make_taskaware_tensor_classification_dataset,
    )

    x, y, _ = columns()
    memory = _make_taskaware_tensor_classification_dataset(x, y)
    data = InMemoryDataset(x, y, torch.zeros_like(y))
    assert list(data.concat(memory).targets_task_labels) == [0] * 2 * N


def test_task_pattern_indices_and_uniques() -> None:
    data = dataset()
    assert {t: list(i) for t, i in data.task_pattern_indices.items()} == {
        0: [*range(0, N, 2)],
        1: [*range(1, N, 2)],
    }
    one = data.subset([1, 3])
    assert one.targets_task_labels.uniques == {1}
    assert {t: list(i) for t, i in one.task_pattern_indices.items()} == {1: [0, 1]}
    assert data.targets.uniques == {0, 1, 2, 3}


def test_updated_attributes_are_seen() -> None:
    updated = dataset().update_data_attribute("targets", [7] * N)
    assert set(updated.targets) == {7}
    assert list(updated.subset([0, 1]).targets) == [7, 7]
    with_scores = dataset().update_data_attribute("scores", [*range(N)])
    assert list(with_scores.subset([5, 3]).scores) == [5, 3]


def test_torchs_loader_reads_it() -> None:
    x, y, t = next(iter(DataLoader(dataset(), batch_size=N)))
    assert all(map(torch.equal, (x, y, t), columns()))


def test_to_another_dtype_of_samples() -> None:
    """Any dtype will do: images may stay bytes until they are transformed."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1)
    data = InMemoryDataset(images, *columns()[1:], lambda x: x / 255)
    assert data.fetch(torch.tensor([5]))[0].item() == pytest.approx(5 / 255)
    assert data.eval()[5][0].dtype == torch.uint8


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)
def test_to_moves_all_columns_and_keeps_view_and_augmentation(device: str) -> None:
    moved = dataset(transform=negated).eval().to(device)
    assert {moved.x.device.type, moved.y.device.type, moved.t.device.type} == {device}
    assert_same(moved, dataset())
    assert_same(moved.train(), dataset(transform=negated))
    assert_same(moved.subset([3]).concat(moved), dataset().subset([3]).concat(dataset()))
