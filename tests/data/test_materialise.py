"""Any benchmark of Avalanche in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    nc_benchmark,
    split_online_stream,
    task_incremental_benchmark,
)
from avalanche.benchmarks.utils import DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.benchmarks.utils.data import make_avalanche_dataset
from torch import Tensor
from torchvision.transforms import v2

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import (
    InMemoryDataset,
    InMemoryLoaders,
    fetch_all,
    in_memory,
    materialise,
    origin_experience,
    origin_index,
)
from tests.cases import SampleBySample, plain_benchmark, plain_dataset, quiet


class Counted:
    """A deterministic transform that knows how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * 2


def images(n: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % 10, torch.full((n,), 3)


def classic(train_transform: Any = None, eval_transform: Any = None) -> Any:
    """A benchmark as Avalanche's classic ones are made."""
    x, y, _ = images()
    data = SampleBySample(x, y, Tensor.clone)
    return nc_benchmark(
        data,
        data,
        n_experiences=5,
        task_labels=True,
        fixed_class_order=[9, 1, 2, 3, 4, 5, 6, 7, 8, 0],
        train_transform=train_transform,
        eval_transform=eval_transform or train_transform,
    )


def test_content_is_what_fetching_gives() -> None:
    dataset = plain_dataset(*images(), transform=lambda x: x - 1)
    held = materialise(dataset)
    assert held is not None
    assert held.x.is_contiguous()
    assert torch.equal(held.x, images()[0] - 1)
    assert torch.equal(held.y, images()[1])
    assert torch.equal(held.t, images()[2])


def test_deterministic_transforms_are_applied_once() -> None:
    """Once per sample, and for the samples that test for randomness."""
    transform = Counted()
    plain = plain_benchmark(split_digits(train_size=30, test_size=10), transform)
    benchmark = in_memory(plain)
    calls = transform.calls
    assert calls <= 5 * (30 + 10) + 10 * 3 * 256
    strategy = quiet(plugins=[InMemoryLoaders()], train_epochs=3)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert transform.calls == calls
    original = plain.train_stream[0].dataset[0][0]
    assert torch.equal(benchmark.train_stream[0].dataset.x[0], original)


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomCrop(8, padding=1),
        v2.RandomHorizontalFlip(),
        lambda x: x + torch.rand(1),
    ],
    ids=["crop", "flip", "noise"],
)
@pytest.mark.parametrize("n", [1, 40, 1000])
def test_random_transforms_are_left_alone(transform: Callable[[Tensor], Tensor], n: int) -> None:
    dataset = plain_dataset(*images(n), transform=transform)
    assert materialise(dataset) is None


def test_a_benchmark_keeps_its_random_transforms() -> None:
    benchmark = classic(v2.RandomCrop(8, padding=2), v2.Normalize([0.5], [0.5]))
    held = in_memory(benchmark)
    for experience in held.train_stream:
        first, second = (fetch_all(experience.dataset)[0] for _ in range(2))
        assert not torch.equal(first, second)
    assert all(not isinstance(e.dataset, InMemoryDataset) for e in held.train_stream)
    strategy = quiet(plugins=[InMemoryLoaders()])
    strategy.train(held.train_stream)


def test_different_deterministic_views_are_left_alone() -> None:
    dataset = make_avalanche_dataset(
        plain_dataset(*images()), transform_groups={"train": None, "eval": lambda x: x + 1}
    )
    assert materialise(dataset) is None


def test_classic_benchmarks_keep_everything_else() -> None:
    benchmark = classic(lambda x: x + 1)
    held = in_memory(benchmark)
    assert held.n_classes == 10
    assert held.n_experiences == 5
    assert held.classes_order == benchmark.classes_order
    assert held.n_classes_per_exp == [2] * 5
    assert set(held.streams) == {"train", "test"}
    for name, stream in benchmark.streams.items():
        assert len(held.streams[name]) == len(stream)
        for ours, theirs in zip(held.streams[name], stream, strict=True):
            assert isinstance(ours.dataset, InMemoryDataset)
            assert not isinstance(theirs.dataset, InMemoryDataset)
            assert ours.current_experience == theirs.current_experience
            assert ours.task_labels == theirs.task_labels
            assert ours.task_label == theirs.task_label
            assert ours.classes_in_this_experience == theirs.classes_in_this_experience
            assert ours.previous_classes == theirs.previous_classes
            assert ours.origin_stream.name == name
            assert ours.origin_stream.benchmark is held
            assert ours.benchmark.n_classes == 10
            assert all(map(torch.equal, fetch_all(ours.dataset), fetch_all(theirs.dataset)))


def test_streams_of_other_names_and_slices() -> None:
    dataset = plain_dataset(*images())
    held = in_memory(benchmark_from_datasets(train=[dataset] * 2, valid=[dataset]))
    assert set(held.streams) == {"train", "valid"}
    assert isinstance(held.valid_stream[0].dataset, InMemoryDataset)
    assert [e.current_experience for e in held.train_stream[1:]] == [1]


def test_the_original_is_not_changed() -> None:
    dataset = plain_dataset(*images())
    benchmark = benchmark_from_datasets(train=[dataset] * 2)
    in_memory(benchmark)
    for experience in benchmark.train_stream:
        assert experience.dataset is dataset
        assert experience.origin_stream is benchmark.train_stream


def test_a_benchmark_already_in_memory_stays_so() -> None:
    benchmark = split_digits(augment=True)
    held = in_memory(benchmark)
    for ours, theirs in zip(held.train_stream, benchmark.train_stream, strict=True):
        assert ours.dataset.x is theirs.dataset.x
        assert ours.dataset.augmentation is theirs.dataset.augmentation
    assert held.n_classes == 10


def test_relabelled_in_memory_benchmarks() -> None:
    """Avalanche's own task labels, over in-memory data, and in memory again."""
    benchmark = task_incremental_benchmark(split_digits(), reset_task_labels=True)
    held = in_memory(benchmark)
    for i, experience in enumerate(held.train_stream):
        assert isinstance(experience.dataset, InMemoryDataset)
        assert set(experience.dataset.t.tolist()) == {i}


def test_datasets_without_task_labels_get_zero() -> None:
    x, y, _ = images()
    data = ClassificationDataset(
        [SampleBySample(x, y, Tensor.clone)], data_attributes=[DataAttribute(y.tolist(), "targets")]
    )
    assert [column.tolist() for column in fetch_all(data)[1:]] == [y.tolist(), [0] * len(y)]
    held = materialise(data)
    assert held is not None
    assert set(held.t.tolist()) == {0}


def test_task_labels_are_found_before_other_attributes() -> None:
    x, y, t = images()
    logits = DataAttribute([*torch.rand(len(x), 10)], "logits", use_in_getitem=True)
    data = plain_dataset(x, y, t).update_data_attribute("logits", logits)
    assert [column.tolist() for column in fetch_all(data)[1:]] == [y.tolist(), t.tolist()]


def test_fetching_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    fetch_all(plain_dataset(*images()))
    materialise(plain_dataset(*images()))
    assert torch.equal(torch.get_rng_state(), before)


def test_origin_of_plain_and_online_experiences() -> None:
    benchmark = split_digits(train_size=12)
    for i, experience in enumerate(benchmark.train_stream):
        assert origin_index(experience.train()) == i
        assert origin_experience(experience.eval()).current_experience == i
    cut = split_online_stream(benchmark.train_stream, 5)
    assert [origin_index(e.train()) for e in cut] == [i for i in range(5) for _ in range(3)]
    first = next(iter(cut))
    assert origin_experience(first.train()).classes_in_this_experience == [0, 1]
