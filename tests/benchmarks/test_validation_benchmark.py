"""Training samples that are held out of the first experiences, in place of the test stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from torch import Tensor
from torch.utils.data import Dataset

from avalanche_ext.benchmarks import catalogue
from avalanche_ext.benchmarks.validation import validation_benchmark
from avalanche_ext.data import by_origin


def rows(dataset: Any) -> set[tuple[float, ...]]:
    return {tuple(dataset[i][0].flatten().tolist()) for i in range(len(dataset))}


def test_what_is_held_out_comes_from_training_and_is_not_trained_on() -> None:
    whole = catalogue.split_digits(n_experiences=5, train_size=100, order_seed=3)
    part = validation_benchmark(whole, 2, 30, seed=1)
    assert (len(part.train_stream), len(part.test_stream)) == (2, 2)
    for i in range(2):
        train, held = (s[i].dataset for s in (part.train_stream, part.test_stream))
        assert (len(train), len(held)) == (70, 30)
        assert rows(train) | rows(held) == rows(whole.train_stream[i].dataset)
        assert not rows(train) & rows(held)
    assert part.n_classes == whole.n_classes == 10
    assert part.n_classes_per_exp == [2, 2]
    assert part.train_stream[1].classes_in_this_experience == (
        whole.train_stream[1].classes_in_this_experience
    )
    assert len(whole.train_stream) == 5


def test_the_seed_decides_which_samples() -> None:
    whole = catalogue.split_digits(n_experiences=5, train_size=100)
    first, again, other = (
        rows(validation_benchmark(whole, 1, 30, seed=seed).test_stream[0].dataset)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_an_online_stream_is_cut_again() -> None:
    whole = catalogue.split_digits(n_experiences=5, train_size=100, online=10)
    part = validation_benchmark(whole, 2, 30, seed=1)
    parts = by_origin(part.train_stream)
    assert [len(cut) for cut in parts.values()] == [7, 7]
    assert [len(cut.dataset) for cut in parts[1]] == [10] * 7
    assert not rows(parts[0][0].dataset) & rows(part.test_stream[0].dataset)


def test_held_out_samples_have_no_random_transforms() -> None:
    from torchvision.transforms import v2

    whole = catalogue.split_digits(
        n_experiences=5, train_size=50, train_transforms=[v2.RandomCrop(8, padding=3)]
    )
    part = validation_benchmark(whole, 1, 20, seed=1)
    held, train = part.test_stream[0].dataset, part.train_stream[0].dataset
    assert all(torch.equal(held[i][0], held[i][0]) for i in range(20))
    assert any(not torch.equal(train[i][0], train[i][0]) for i in range(20))


class Poisoned(Dataset[Any]):
    """Samples that must not be touched."""

    targets = (0, 1)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        raise AssertionError("a test sample was touched")


class Plain(Dataset[Any]):
    """Ten samples of two classes."""

    targets = tuple(i % 2 for i in range(10))

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((4,), float(index)), self.targets[index]


def test_the_test_stream_of_any_benchmark_is_not_touched() -> None:
    whole = benchmark_from_datasets(
        train=[as_classification_dataset(Plain()) for _ in range(2)],
        test=[as_classification_dataset(Poisoned()) for _ in range(2)],
    )
    whole.extra = "kept"
    part = validation_benchmark(whole, 2, 4, seed=0)
    assert part.extra == "kept"
    assert part.n_classes == 2
    assert len(rows(part.test_stream[1].dataset)) == 4


def numbers(dataset: Any) -> set[int]:
    """Samples by the sum of their pixels, which permuting and rotating by right angles keeps."""
    return {round(float(dataset[i][0].double().sum() * 1e4)) for i in range(len(dataset))}


@pytest.mark.parametrize("subset", ["first", "seed"])
def test_what_is_held_out_of_a_permuted_experience_is_trained_on_in_no_other(subset: Any) -> None:
    torch.manual_seed(0)
    x = torch.rand(90, 1, 3, 3)
    pairs = [(x[i], i % 3) for i in range(90)]
    whole = catalogue.permuted((pairs, pairs), n_experiences=3, train_size=60, subset=subset)
    part = validation_benchmark(whole, 3, 15, seed=1)
    held = [numbers(each.dataset) for each in part.test_stream]
    trained = [numbers(each.dataset) for each in part.train_stream]
    assert [len(each) for each in held] == [15] * 3
    assert not {*held[0], *held[1], *held[2]} & {*trained[0], *trained[1], *trained[2]}
    for i, each in enumerate(whole.train_stream):
        assert trained[i] == numbers(each.dataset) - {*held[0], *held[1], *held[2]}
    # As many samples as possible stay.
    assert (held[0] == held[1] == held[2]) == (subset == "first")
    assert all(len(each) == 45 for each in trained) == (subset == "first")


def test_samples_that_experiences_of_any_benchmark_share_are_held_out_of_all() -> None:
    shared = as_classification_dataset(Plain())
    whole = benchmark_from_datasets(
        train=[shared.subset([0, 1, 2, 3, 4, 5]), shared.subset([9, 8, 7, 6, 5, 4]).concat(shared)],
        test=[as_classification_dataset(Poisoned()) for _ in range(2)],
    )
    part = validation_benchmark(whole, 2, 3, seed=0)
    held, trained = (
        [rows(each.dataset) for each in stream] for stream in (part.test_stream, part.train_stream)
    )
    assert not (held[0] | held[1]) & (trained[0] | trained[1])
    assert [len(each.dataset) for each in part.test_stream] == [3, 3]


def test_nothing_left_to_train_on_is_refused() -> None:
    shared = as_classification_dataset(Plain())
    whole = benchmark_from_datasets(
        train=[shared.subset(each) for each in ([0, 2], [1, 3], [0, 1])], test=[shared] * 3
    )
    with pytest.raises(ValueError, match="all 2 training samples of experience 2 are held out"):
        [validation_benchmark(whole, 3, 1, seed=seed) for seed in range(20)]


def test_too_few_experiences_or_samples_are_refused() -> None:
    whole = catalogue.split_digits(n_experiences=5, train_size=40)
    with pytest.raises(ValueError, match="needs the first 6 experiences, but there are 5: give a"):
        validation_benchmark(whole, 6, 10, seed=0)
    with pytest.raises(ValueError, match="experience 0 has 40 training samples: give a smaller"):
        validation_benchmark(whole, 2, 40, seed=0)
