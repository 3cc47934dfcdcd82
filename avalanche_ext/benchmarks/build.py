"""Make an Avalanche benchmark of tasks in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from avalanche.benchmarks import (
    CLScenario,
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from torch import Tensor

from avalanche_ext.benchmarks.tasks import Task
from avalanche_ext.data import InMemoryDataset

Scenario = Literal["class", "domain", "task"]
_CLASS_SETS = (
    "classes_in_this_experience",
    "previous_classes",
    "classes_seen_so_far",
    "future_classes",
)


def build_benchmark(
    tasks: Sequence[Task],
    scenario: Scenario,
    augmentation: Callable[[Tensor], Tensor] | None = None,
) -> CLScenario:
    """Return a benchmark with a train and a test stream of one experience per task.

    Args:
        tasks: Samples of each experience.
        scenario: "class": labels of the data set, task label 0. "domain": the labels of each
            experience count from 0, task label 0. "task": as "domain", but the task label is the
            index of the experience.
        augmentation: Random transform of one training sample.

    Returns:
        A benchmark of Avalanche whose experiences know their classes and task labels. It also
        has `n_classes`, `n_classes_per_exp` and `classes_order`, which Avalanche's iCaRL and PNN
        read from each experience's `benchmark`.
    """
    # Of both parts: a small training subset may lack a class that is tested.
    classes = [torch.unique(torch.cat([task.train_y, task.test_y])) for task in tasks]
    streams: dict[str, list[InMemoryDataset]] = {"train": [], "test": []}
    for i, (task, held) in enumerate(zip(tasks, classes, strict=True)):
        for name, x, y in (
            ("train", task.train_x, task.train_y),
            ("test", task.test_x, task.test_y),
        ):
            labels = y if scenario == "class" else torch.searchsorted(held, y)
            t = torch.full_like(labels, i if scenario == "task" else 0)
            transform = augmentation if name == "train" else None
            streams[name].append(InMemoryDataset(x, labels, t, transform))
    return assemble(streams, classes)


def assemble(
    streams: Mapping[str, Sequence[InMemoryDataset]], classes: Sequence[Tensor]
) -> CLScenario:
    """Return a benchmark with the given streams, whose experiences know classes and task labels.

    Args:
        streams: Data set of each experience, by the stream's name.
        classes: Classes that each experience brings, one vector for each; `n_classes_per_exp` and
            `classes_order` are made of them.
    """
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(**streams)))
    benchmark.n_classes = 1 + max(int(d.y.max()) for stream in streams.values() for d in stream)
    benchmark.n_classes_per_exp = [len(held) for held in classes]
    benchmark.classes_order = torch.cat([*classes]).tolist()
    for stream in benchmark.streams.values():
        for experience in stream:
            _complete(experience, benchmark)
    return benchmark


def _complete(experience: Any, benchmark: CLScenario) -> None:
    experience.benchmark = benchmark
    for name in _CLASS_SETS:
        # Avalanche's modules index these, but its decorator leaves sets.
        setattr(experience, name, sorted(getattr(experience, name)))
