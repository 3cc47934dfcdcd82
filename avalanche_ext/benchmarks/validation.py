"""A benchmark whose test stream is replaced by held-out training samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLScenario, OnlineCLExperience, benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.flat_data import FlatData
from numpy.typing import NDArray
from torch.utils.data import Subset

from avalanche_ext.benchmarks.build import online_benchmark
from avalanche_ext.benchmarks.foreign import labelled
from avalanche_ext.data import InMemoryDataset, by_origin, origin_experience

Rows = NDArray[np.int64]


def validation_benchmark(
    benchmark: CLScenario, experiences: int, per_experience: int, seed: int
) -> CLScenario:
    """Return the first experiences with some of their training samples as the test stream.

    The benchmark's own test stream is not used. An online stream is split again. If several
    experiences share samples, as with one permuted or rotated data set, a sample held out of one is
    held out of all, so that no evaluated sample is trained on in any form.

    Args:
        benchmark: Classification benchmark with a finite training stream; it is not changed.
        experiences: Number of experiences to keep.
        per_experience: Number of samples of each to hold out of training.
        seed: Seed of the held-out samples, and of the order of an online stream.

    Returns:
        A benchmark with the same number of classes, whose "test" stream has the held-out samples in
        their evaluation view.

    Raises:
        ValueError: If there are fewer experiences, or if one has no training samples left.
    """
    parts = by_origin(benchmark.train_stream)
    if len(parts) < experiences:
        raise ValueError(
            f"validation needs the first {experiences} experiences, but there are {len(parts)}: "
            "give a smaller number"
        )
    origins = [origin_experience(of[0]) for of in parts.values()]
    streams: dict[str, list[Any]] = {"train": [], "test": []}
    for origin, (held, kept) in zip(
        origins, _held_out(benchmark, origins[:experiences], per_experience, seed), strict=False
    ):
        streams["train"].append(origin.dataset.subset(kept.tolist()))
        streams["test"].append(_as_evaluated(origin.dataset.subset(held.tolist())))
    result = labelled(benchmark_from_datasets(**streams))
    result.n_classes = _n_classes(benchmark, origins)
    for name, value in vars(benchmark).items():
        if name == "n_classes_per_exp":
            setattr(result, name, value[:experiences])
        elif name not in vars(result) and name != "train_rows":  # There are fewer training rows.
            setattr(result, name, value)
    first = next(iter(parts.values()))[0].logging()
    size = first.subexp_size if isinstance(first, OnlineCLExperience) else None
    return online_benchmark(result, size, seed)


def _held_out(
    benchmark: CLScenario, origins: Sequence[Any], per_experience: int, seed: int
) -> list[tuple[Rows, Rows]]:
    """Return the held-out samples and the training samples of each experience."""
    rows = _rows(benchmark, origins)
    held: list[Rows] = []
    everywhere: Rows = np.empty(0, np.int64)
    for i, own in enumerate(rows):
        n = len(own)
        if per_experience >= n:
            raise ValueError(
                f"{per_experience} samples of each experience are to be held out for validation, "
                f"but experience {i} has {n} training samples: give a smaller "
                "validation_per_experience"
            )
        order = np.random.default_rng([seed, i]).permutation(n)
        # Reuse images already held out, so that as many samples as possible remain.
        order = order[np.argsort(~np.isin(own[order], everywhere), kind="stable")]
        held.append(np.sort(order[:per_experience]))
        everywhere = np.union1d(everywhere, own[held[-1]])
    parts = []
    for i, (own, those) in enumerate(zip(rows, held, strict=True)):
        kept = np.flatnonzero(~np.isin(own, everywhere))
        if not len(kept):
            raise ValueError(
                f"all {len(own)} training samples of experience {i} are held out for validation, "
                "of this or another experience: give a smaller validation_per_experience"
            )
        parts.append((those, kept))
    return parts


def _rows(benchmark: CLScenario, origins: Sequence[Any]) -> list[Rows]:
    """Return a number for each training sample of each experience, equal for the same sample."""
    known = getattr(benchmark, "train_rows", None)
    if known and all(rows is not None for rows in known):
        return [rows.numpy() for rows in known[: len(origins)]]
    numbers = _Numbers()
    return [numbers.of(origin.dataset) for origin in origins]


class _Numbers:
    """Numbers the samples of the data sets behind experiences, by identity."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._n = 0

    def of(self, dataset: Any) -> Rows:
        """Return the number of each sample, looking through subsets and concatenations."""
        if isinstance(dataset, AvalancheDataset):
            return self.of(dataset._flat_data)
        if isinstance(dataset, FlatData):
            whole = np.concatenate([self.of(part) for part in dataset._datasets])
            return whole if dataset._indices is None else whole[[*dataset._indices]]
        if isinstance(dataset, Subset):
            return self.of(dataset.dataset)[[*dataset.indices]]
        if id(dataset) not in self._first:
            self._first[id(dataset)] = self._n
            self._n += len(dataset)
        first = self._first[id(dataset)]
        return np.arange(first, first + len(dataset))


def _as_evaluated(dataset: Any) -> Any:
    """Return a dataset with the evaluation view everywhere, without random transforms."""
    evaluated = dataset.eval()
    return evaluated if isinstance(dataset, InMemoryDataset) else evaluated.freeze_transforms()


def _n_classes(benchmark: CLScenario, origins: list[Any]) -> int:
    """Return the number of classes of the whole benchmark, according to its training samples."""
    largest = max(int(torch.as_tensor(list(each.dataset.targets)).max()) for each in origins)
    return max(getattr(benchmark, "n_classes", 0), largest + 1)
