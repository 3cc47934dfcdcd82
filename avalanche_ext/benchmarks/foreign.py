"""Benchmarks that other packages' or users' functions make, completed for strategies."""

from __future__ import annotations

from avalanche.benchmarks import CLScenario, with_classes_timeline, with_task_labels

from avalanche_ext.benchmarks.build import complete


def labelled(benchmark: CLScenario) -> CLScenario:
    """Return a benchmark whose experiences have task labels and classes.

    Some of Avalanche's functions give neither, such as `benchmark_from_datasets`.

    Args:
        benchmark: Classification benchmark with finite streams of tensor samples.

    Raises:
        ValueError: If samples have no task labels.
    """
    result = benchmark
    first = benchmark.train_stream[0].logging()
    if not hasattr(first.dataset, "targets_task_labels"):
        raise ValueError(
            "samples have no task labels: make the data sets by as_taskaware_classification_dataset"
        )
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
