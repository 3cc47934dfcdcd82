"""A benchmark whose test stream is replaced by training samples that are held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLScenario, OnlineCLExperience, benchmark_from_datasets

from avalanche_ext.benchmarks.build import online_benchmark
from avalanche_ext.benchmarks.foreign import labelled
from avalanche_ext.data import InMemoryDataset, by_origin, origin_experience


def validation_benchmark(
    benchmark: CLScenario, experiences: int, per_experience: int, seed: int
) -> CLScenario:
    """Return the first experiences with some of their training samples as the test stream.

    The benchmark's own test stream is not looked at. An online stream is cut anew.

    Args:
        benchmark: Classification benchmark with a finite training stream; it is not changed.
        experiences: How many experiences are kept.
        per_experience: Samples of each that are held out of training.
        seed: Seed of what is held out, and of the order of an online stream.

    Returns:
        A benchmark with as many classes, whose "test" stream has the samples held out, as they are
        evaluated.

    Raises:
        ValueError: If there are fewer experiences, or no more samples in one of them.
    """
    parts = by_origin(benchmark.train_stream)
    if len(parts) < experiences:
        raise ValueError(
            f"the first {experiences} experiences are to be learned, but there are {len(parts)}"
        )
    origins = [origin_experience(of[0]) for of in parts.values()]
    streams: dict[str, list[Any]] = {"train": [], "test": []}
    for i, origin in enumerate(origins[:experiences]):
        n = len(origin.dataset)
        if per_experience >= n:
            raise ValueError(
                f"{per_experience} samples of each experience are to be held out for validation, "
                f"but experience {i} has {n} training samples: give a smaller "
                "validation_per_experience"
            )
        order = np.random.default_rng([seed, i]).permutation(n)
        held, kept = (np.sort(rows) for rows in np.split(order, [per_experience]))
        streams["train"].append(origin.dataset.subset(kept.tolist()))
        streams["test"].append(_as_evaluated(origin.dataset.subset(held.tolist())))
    result = labelled(benchmark_from_datasets(**streams))
    result.n_classes = _n_classes(benchmark, origins)
    for name, value in vars(benchmark).items():
        if name == "n_classes_per_exp":
            setattr(result, name, value[:experiences])
        elif name not in vars(result):
            setattr(result, name, value)
    first = next(iter(parts.values()))[0].logging()
    size = first.subexp_size if isinstance(first, OnlineCLExperience) else None
    return online_benchmark(result, size, seed)


def _as_evaluated(dataset: Any) -> Any:
    """Return a dataset whose every view is the one that is evaluated, without random transforms."""
    evaluated = dataset.eval()
    return evaluated if isinstance(dataset, InMemoryDataset) else evaluated.freeze_transforms()


def _n_classes(benchmark: CLScenario, origins: list[Any]) -> int:
    """The number of classes of the whole benchmark, as far as its training samples tell."""
    largest = max(int(torch.as_tensor(list(each.dataset.targets)).max()) for each in origins)
    return max(getattr(benchmark, "n_classes", 0), largest + 1)
