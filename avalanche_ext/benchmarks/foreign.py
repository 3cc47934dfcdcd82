"""Benchmarks from other packages' or users' functions, completed for strategies."""

from __future__ import annotations

from copy import copy

from avalanche.benchmarks import (
    CLScenario,
    CLStream,
    EagerCLStream,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import (
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
)

from avalanche_ext.benchmarks.build import complete


def labelled(benchmark: CLScenario) -> CLScenario:
    """Return a benchmark whose experiences have task labels and classes.

    Some of Avalanche's functions provide neither, such as `benchmark_from_datasets`.

    Samples without a task label get the label 0.

    Args:
        benchmark: Classification benchmark with finite streams of tensor samples.
    """
    result = benchmark
    first = benchmark.train_stream[0].logging()
    if not hasattr(first.dataset, "targets_task_labels"):
        result = CLScenario([_with_task_label(stream) for stream in result.streams.values()])
    if not hasattr(first, "classes_in_this_experience"):
        result = with_classes_timeline(result)
    if not hasattr(first, "task_labels"):
        result = with_task_labels(result)
    if hasattr(benchmark, "n_classes"):
        result.n_classes = benchmark.n_classes
    for stream in result.streams.values():
        for experience in stream:
            complete(experience, result)
    return result


def _with_task_label(stream: CLStream) -> EagerCLStream:
    """Return a stream whose samples have the task label 0."""
    experiences = []
    for original in stream:
        experience = copy(original.logging())
        dataset = experience.dataset
        label = DataAttribute(
            ConstantSequence(0, len(dataset)), "targets_task_labels", use_in_getitem=True
        )
        experience._dataset = TaskAwareSupervisedClassificationDataset(
            [dataset], data_attributes=[label]
        )
        experiences.append(experience)
    return EagerCLStream(stream.name, experiences)
