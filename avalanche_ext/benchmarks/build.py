"""Benchmarks made of tasks, or of all training samples of another benchmark in random order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, Literal

import numpy as np
import torch
from avalanche.benchmarks import (
    CLScenario,
    EagerCLStream,
    OnlineCLExperience,
    benchmark_from_datasets,
    split_online_stream,
    with_classes_timeline,
    with_task_labels,
)
from pydantic import PositiveInt
from torch import Generator, Tensor

from avalanche_ext.benchmarks.tasks import Task
from avalanche_ext.data import InMemoryDataset
from avalanche_ext.data.views import SampleTransforms
from avalanche_ext.validation import validated

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
        tasks: The samples of each experience.
        scenario: Labels of the experiences. "class": labels of the data set, with task label 0.
            "domain": labels from 0 in each experience, with task label 0. "task": labels from 0 in
            each experience, with the index of the experience as task label. They count the task's
            `classes`, so a class that no sample has keeps its label.
        augmentation: Random transform of one training sample, for tasks without transforms.

    Returns:
        An Avalanche benchmark whose experiences have classes and task labels. It also has
        `n_classes` (the largest label that an experience can have, plus 1), `n_classes_per_exp` and
        `classes_order`, which Avalanche's iCaRL and PNN read from each experience's `benchmark`,
        and the tasks' `train_rows`. These three count the tasks' `classes`; an experience's
        `classes_in_this_experience` has the classes of its samples, as Avalanche's do.

    Raises:
        ValueError: If a sample's class is not among its task's `classes`.
    """
    classes = [_classes(task, i) for i, task in enumerate(tasks)]
    streams: dict[str, list[InMemoryDataset]] = {"train": [], "test": []}
    views: dict[tuple[int, ...], tuple[SampleTransforms, SampleTransforms]] = {}
    for i, (task, held) in enumerate(zip(tasks, classes, strict=True)):
        transforms: tuple[Any, ...] = (augmentation, None)
        if task.transforms.drawn:
            # Experiences with the same transforms share them, so that a buffer can join samples.
            key = (id(task.transforms), *map(id, task.changes))
            views.setdefault(key, task.transforms.views(task.changes))
            transforms = views[key]
        for name, x, y in (
            ("train", task.train_x, task.train_y),
            ("test", task.test_x, task.test_y),
        ):
            labels = y if scenario == "class" else torch.searchsorted(held, y)
            t = torch.full_like(labels, i if scenario == "task" else 0)
            own = transforms if name == "train" else ()
            streams[name].append(InMemoryDataset(x, labels, t, *own))
    largest = (int(held.max()) + 1 if scenario == "class" else len(held) for held in classes)
    benchmark = _assemble(streams, classes, max(largest))
    benchmark.train_rows = [task.train_rows for task in tasks]
    return benchmark


def _classes(task: Task, index: int) -> Tensor:
    """Return the classes of the experience with this index, ascending."""
    # Both parts count: a small training subset may lack a class of the test set.
    held: Tensor = torch.unique(torch.cat([task.train_y, task.test_y]))
    if task.classes is None:
        return held
    classes: Tensor = torch.unique(task.classes)
    others = held[~torch.isin(held, classes)].tolist()
    if others:
        raise ValueError(
            f"task {index} has samples of class {others[0]}, which is not among its classes "
            f"{classes.tolist()}"
        )
    return classes


def online_benchmark(benchmark: CLScenario, size: int | None, seed: int) -> CLScenario:
    """Return the benchmark with its training experiences cut into mini-experiences.

    Args:
        benchmark: Benchmark with datasets in memory; it is not changed.
        size: Number of samples of each mini-experience; the last of an experience may have fewer.
            None returns `benchmark`.
        seed: Seed of the order of the samples in each experience.
    """
    if size is None:
        return benchmark
    cut = []
    for i, origin in enumerate(benchmark.train_stream):
        order_seed = int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
        for part in split_online_stream([origin], size, seed=order_seed):
            part.task_labels = origin.task_labels
            part.classes_in_this_experience = sorted({*map(int, part.dataset.targets)})
            cut.append(part)
    result = copy(benchmark)
    streams = [
        EagerCLStream(name, cut if name == "train" else [*stream], result)
        for name, stream in benchmark.streams.items()
    ]
    # A new CLScenario would lack attributes that users and strategies read, such as `n_classes`.
    CLScenario.__init__(result, streams)
    return result


@validated
def iid_stream(benchmark: CLScenario, epochs: PositiveInt, seed: int) -> CLScenario:
    """Return a benchmark with the training samples of all tasks in random order.

    The training stream makes `epochs` passes over the union of all training samples, each pass in
    its own random order. It is cut into as many experiences as `benchmark` has, whose lengths
    differ by at most one. So the transfer matrix stays square, and its last row belongs to the
    model trained on all samples. Train on each experience for one epoch; a shuffling loader changes
    the order only within an experience.

    Args:
        benchmark: Benchmark with datasets in memory and one task label, as `build_benchmark` makes
            for the scenarios "class" and "domain"; it is not changed.
        epochs: Number of passes. Each takes the memory of a copy of the training samples, unless
            they are large and share one tensor, as permutations do.
        seed: Seed of the orders.

    Returns:
        A benchmark with these training experiences and the test datasets of `benchmark`.

    Raises:
        ValueError: If the training samples have several task labels, have random transforms that
            differ between experiences, or come as an online stream.
    """
    if any(isinstance(each, OnlineCLExperience) for each in benchmark.train_stream):
        raise ValueError("an online stream cannot be mixed: leave out 'online' or 'iid'")
    first, *others = (experience.dataset for experience in benchmark.train_stream)
    whole = first.joined(others)
    task_labels = torch.unique(whole.t).tolist()
    if len(task_labels) > 1:
        raise ValueError(
            f"benchmark must have one task label, but has {task_labels}: "
            "use the scenario 'class' or 'domain'"
        )
    generator = Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(whole), generator=generator) for _ in range(epochs)])
    parts = [whole.subset(rows) for rows in order.tensor_split(len(benchmark.train_stream))]
    streams = {
        "train": parts,
        "test": [experience.dataset for experience in benchmark.test_stream],
    }
    largest = max(int(d.y.max()) for stream in streams.values() for d in stream)
    n_classes = max(largest + 1, getattr(benchmark, "n_classes", 0))
    return _assemble(streams, [torch.unique(part.y) for part in parts], n_classes)


def _assemble(
    streams: Mapping[str, Sequence[InMemoryDataset]], classes: Sequence[Tensor], n_classes: int
) -> CLScenario:
    """Return a benchmark with the given streams, whose experiences have classes and task labels.

    Args:
        streams: Data set of each experience, by name of the stream.
        classes: Classes of each experience, for `n_classes_per_exp` and `classes_order`.
        n_classes: Number of classes of the benchmark.
    """
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(**streams)))
    benchmark.n_classes = n_classes
    benchmark.n_classes_per_exp = [len(held) for held in classes]
    benchmark.classes_order = torch.cat([*classes]).tolist()
    for stream in benchmark.streams.values():
        for experience in stream:
            complete(experience, benchmark)
    return benchmark


def complete(experience: Any, benchmark: CLScenario) -> None:
    """Add the attributes that Avalanche's strategies and modules read to an experience."""
    experience.benchmark = benchmark
    for name in _CLASS_SETS:
        # Avalanche's modules index these attributes, but its decorator makes them sets.
        setattr(experience, name, sorted(getattr(experience, name)))
