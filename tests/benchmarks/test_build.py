"""The attributes of our benchmarks' experiences that Avalanche reads."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import CLScenario
from torch import Tensor

from avalanche_ext.benchmarks import Task, build_benchmark
from avalanche_ext.data import InMemoryDataset


def tasks(*classes: list[int], train_lacks: int | None = None) -> list[Task]:
    """One task for each list of classes, with two training and two test samples of each."""

    def part(labels: list[int]) -> tuple[Tensor, Tensor]:
        y = torch.tensor([*labels, *reversed(labels)])
        return y[:, None].float(), y

    return [
        Task(*part([c for c in labels if c != train_lacks]), *part(labels)) for labels in classes
    ]


def build(scenario: Any, *classes: list[int], **given: Any) -> CLScenario:
    return build_benchmark(tasks(*classes, **given), scenario)


@pytest.mark.parametrize(
    ("scenario", "labels", "task_labels", "n_classes"),
    [
        ("class", [[4, 1], [0, 3]], [0, 0], 5),
        ("domain", [[1, 0], [0, 1]], [0, 0], 2),
        ("task", [[1, 0], [0, 1]], [0, 1], 2),
    ],
)
@pytest.mark.parametrize("stream", ["train", "test"])
def test_labels(
    scenario: Any, labels: list[list[int]], task_labels: list[int], n_classes: int, stream: str
) -> None:
    benchmark = build(scenario, [4, 1], [0, 3])
    assert benchmark.n_classes == n_classes
    assert benchmark.n_classes_per_exp == [2, 2]
    for i, experience in enumerate(benchmark.streams[stream]):
        dataset = experience.dataset
        assert isinstance(dataset, InMemoryDataset)
        assert dataset.y[:2].tolist() == labels[i]
        assert list(dataset.targets)[:2] == labels[i]
        assert set(dataset.t.tolist()) == {task_labels[i]}
        assert experience.task_label == task_labels[i]
        assert experience.task_labels == [task_labels[i]]
        assert experience.current_experience == i
        assert experience.origin_stream.name == stream
        assert dataset.x[:2, 0].tolist() == [[4, 1], [0, 3]][i], "samples stay what they were"


def test_classes_are_lists_in_every_mode() -> None:
    benchmark = build("class", [4, 1], [0, 3], [2, 5])
    for stream in benchmark.streams.values():
        second = stream[1]
        for experience in (second, second.train(), second.eval(), second.logging()):
            assert experience.classes_in_this_experience == [0, 3]
            assert experience.previous_classes == [1, 4]
            assert experience.classes_seen_so_far == [0, 1, 3, 4]
            assert experience.future_classes == [2, 5]


def test_what_icarl_and_pnn_read() -> None:
    benchmark = build("class", [4, 1], [0, 3])
    for experience in (*benchmark.train_stream, *benchmark.test_stream):
        assert experience.benchmark is benchmark
    assert benchmark.classes_order == [1, 4, 0, 3]


@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
@pytest.mark.parametrize("lacking", [1, 4, 3])
def test_a_class_that_training_lacks_keeps_its_label(scenario: Any, lacking: int) -> None:
    """Small random subsets may leave a class out of training, but not out of testing."""
    whole, lacks = (build(scenario, [4, 1], [0, 3], train_lacks=label) for label in (None, lacking))
    assert lacks.n_classes == whole.n_classes
    assert lacks.n_classes_per_exp == whole.n_classes_per_exp
    for ours, theirs in zip(lacks.test_stream, whole.test_stream, strict=True):
        assert torch.equal(ours.dataset.y, theirs.dataset.y)
    for ours, theirs in zip(lacks.train_stream, whole.train_stream, strict=True):
        label_of = dict(
            zip(theirs.dataset.x[:, 0].tolist(), theirs.dataset.y.tolist(), strict=True)
        )
        assert [label_of[x] for x in ours.dataset.x[:, 0].tolist()] == ours.dataset.y.tolist()


@pytest.mark.parametrize(
    ("scenario", "labels", "n_classes"),
    [("class", [[4], [0, 2]], 5), ("domain", [[2], [0, 1]], 3), ("task", [[2], [0, 1]], 3)],
)
def test_a_class_without_any_sample_keeps_its_label(
    scenario: Any, labels: list[list[int]], n_classes: int
) -> None:
    given = [torch.tensor([4, 1, 3]), torch.tensor([0, 2])]
    parts = [
        replace(task, classes=classes)
        for task, classes in zip(tasks([4], [0, 2]), given, strict=True)
    ]
    benchmark = build_benchmark(parts, scenario)
    assert benchmark.n_classes == n_classes
    assert benchmark.n_classes_per_exp == [3, 2]
    assert benchmark.classes_order == [1, 3, 4, 0, 2]
    for stream in benchmark.streams.values():
        assert [e.dataset.y.unique().tolist() for e in stream] == labels
        assert [e.classes_in_this_experience for e in stream] == labels


def test_a_sample_of_another_class_is_refused() -> None:
    (task,) = tasks([4, 1])
    with pytest.raises(ValueError, match=r"task 0 has samples of class 4, .* its classes \[1, 2\]"):
        build_benchmark([replace(task, classes=torch.tensor([1, 2]))], "domain")


def test_augmentation_is_for_training_only() -> None:
    benchmark = build_benchmark(tasks([0, 1]), "class", augmentation=lambda x: x + 10)
    assert benchmark.train_stream[0].dataset[0][0].item() == 10
    assert benchmark.train_stream[0].dataset.eval()[0][0].item() == 0
    assert benchmark.test_stream[0].dataset.train()[0][0].item() == 0


def test_it_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(build("task", [4, 1], [0, 3])))
    assert again.n_classes == 2
    assert again.train_stream[1].dataset.x[:, 0].tolist() == [0, 3, 3, 0]
    assert again.train_stream[1].task_label == 1
