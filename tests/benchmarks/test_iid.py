"""All tasks at once: which samples come, how often, in which order and parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from avalanche.benchmarks import CLScenario
from torch import Tensor

from avalanche_ext.benchmarks import Task, build_benchmark
from avalanche_ext.benchmarks.build import iid_stream
from avalanche_ext.data import InMemoryDataset


def numbered(*sizes: int, scenario: Any = "class", **given: Any) -> CLScenario:
    """Tasks of two classes each, whose samples are numbered from 0; test samples from 1000."""

    def part(i: int, first: int, n: int) -> tuple[Tensor, Tensor]:
        return torch.arange(first, first + n).float()[:, None], 2 * i + torch.arange(n) % 2

    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    tasks = [
        Task(*part(i, start, n), *part(i, 1000 + start, n))
        for i, (start, n) in enumerate(zip(starts, sizes, strict=True))
    ]
    return build_benchmark(tasks, scenario, **given)


def parts(benchmark: CLScenario) -> list[list[int]]:
    """The numbers of each experience's training samples."""
    return [e.dataset.x[:, 0].long().tolist() for e in benchmark.train_stream]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_each_pass_has_every_sample_once_in_an_order_of_its_own(epochs: int) -> None:
    stream = [*chain(*parts(iid_stream(numbered(20, 30, 10), epochs, 0)))]
    passes = [stream[60 * i : 60 * (i + 1)] for i in range(epochs)]
    assert Counter(stream) == dict.fromkeys(range(60), epochs)
    assert all(sorted(one) == [*range(60)] for one in passes)
    assert len({tuple(one) for one in [*passes, [*range(60)]]}) == epochs + 1


@pytest.mark.parametrize(
    ("sizes", "epochs", "expected"),
    [
        ([20, 30, 10], 1, [20, 20, 20]),
        ([20, 30, 10], 2, [40, 40, 40]),
        ([5, 5, 4], 1, [5, 5, 4]),
        ([2, 2, 3, 2], 3, [7, 7, 7, 6]),
        ([6], 2, [12]),
    ],
)
def test_parts_are_as_many_as_the_tasks_and_equally_long(
    sizes: list[int], epochs: int, expected: list[int]
) -> None:
    assert [len(part) for part in parts(iid_stream(numbered(*sizes), epochs, 0))] == expected


def test_every_part_has_samples_of_all_tasks() -> None:
    for part in parts(iid_stream(numbered(20, 30, 10), 1, 0)):
        assert any(n < 20 for n in part)
        assert any(20 <= n < 50 for n in part)
        assert any(n >= 50 for n in part)


@pytest.mark.parametrize("scenario", ["class", "domain"])
def test_samples_keep_their_labels(scenario: Any) -> None:
    benchmark = numbered(20, 30, 10, scenario=scenario)
    label_of = {
        x: y
        for e in benchmark.train_stream
        for x, y in zip(e.dataset.x[:, 0].tolist(), e.dataset.y.tolist(), strict=True)
    }
    mixed = iid_stream(benchmark, 2, 0)
    assert mixed.n_classes == benchmark.n_classes == {"class": 6, "domain": 2}[scenario]
    for experience in mixed.train_stream:
        data = experience.dataset
        assert isinstance(data, InMemoryDataset)
        assert data.y.tolist() == [label_of[x] for x in data.x[:, 0].tolist()]
        assert list(data.targets) == data.y.tolist()
        assert data.t.tolist() == [0] * len(data)


def test_the_order_depends_on_the_seed_alone() -> None:
    benchmark = numbered(20, 30, 10)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = parts(iid_stream(benchmark, 2, 7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert parts(iid_stream(benchmark, 2, 7)) == first
    assert parts(iid_stream(benchmark, 2, 8)) != first


def test_the_test_stream_and_the_given_benchmark_are_untouched() -> None:
    benchmark = numbered(20, 30, 10)
    before = [[*e.dataset.x[:, 0].tolist()] for e in benchmark.train_stream]
    mixed = iid_stream(benchmark, 2, 0)
    for ours, theirs in zip(mixed.test_stream, benchmark.test_stream, strict=True):
        assert ours.dataset is theirs.dataset
        assert ours.current_experience == theirs.current_experience
        assert ours.classes_in_this_experience == theirs.classes_in_this_experience
        assert ours.classes_seen_so_far == theirs.classes_seen_so_far
        assert (ours.task_label, ours.task_labels) == (theirs.task_label, theirs.task_labels)
        assert ours.origin_stream.name == "test"
        assert ours.benchmark is mixed
        assert theirs.benchmark is benchmark
    assert [[*e.dataset.x[:, 0].tolist()] for e in benchmark.train_stream] == before
    assert benchmark.n_classes_per_exp == [2, 2, 2]


def test_experiences_know_their_classes() -> None:
    mixed = iid_stream(numbered(20, 30, 10), 1, 0)
    for i, experience in enumerate(mixed.train_stream):
        assert experience.current_experience == i
        assert experience.classes_in_this_experience == [*range(6)]
        assert experience.future_classes == []
        assert (experience.task_label, experience.task_labels) == (0, [0])
    assert mixed.n_classes_per_exp == [6, 6, 6]
    assert mixed.classes_order == 3 * [*range(6)]


def test_augmentation_stays_with_training_samples() -> None:
    benchmark = numbered(20, 30, augmentation=lambda x: x + 0.5)
    data = iid_stream(benchmark, 1, 0).train_stream[0].dataset
    rows = torch.arange(len(data))
    assert torch.equal(data.fetch(rows)[0], data.x + 0.5)
    assert torch.equal(data.eval().fetch(rows)[0], data.x)


def test_several_task_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have one task label, but has \[0, 1, 2\]"):
        iid_stream(numbered(2, 2, 2, scenario="task"), 1, 0)


def test_epochs_below_one_are_named() -> None:
    with pytest.raises(ValueError, match="epochs"):
        iid_stream(numbered(2, 2), 0, 0)


def test_a_class_without_samples_counts_as_in_the_benchmark() -> None:
    task = replace(numbered_task(), classes=torch.arange(5))
    benchmark = build_benchmark([task], "domain")
    assert iid_stream(benchmark, 2, 0).n_classes == benchmark.n_classes == 5


def numbered_task() -> Task:
    x, y = torch.zeros(6, 1), torch.arange(6) % 2
    return Task(x, y, x, y)
