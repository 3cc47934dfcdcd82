"""Fetching any Avalanche dataset or benchmark once, and keeping it in memory."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from avalanche.benchmarks import CLScenario, EagerCLStream

from avalanche_ext.data.dataset import InMemoryDataset, fetch_all

_PROBED_SAMPLES = 256


def materialise(dataset: Any, device: torch.device | str = "cpu") -> InMemoryDataset | None:
    """Return `dataset` in memory, or None if its samples change from one fetch to the next.

    A dataset with random transforms must not be materialised, or its augmentation would be frozen.
    To detect one, 256 of its samples (some repeated if it has fewer) are fetched twice from the
    training view and once from the evaluation view, and compared.

    Args:
        dataset: Avalanche classification dataset of tensor samples, not empty.
        device: Device of the tensors.
    """
    if isinstance(dataset, InMemoryDataset):
        return dataset.to(device)
    probed = dataset.subset(probed_rows(len(dataset)))
    first, *others = (fetch_all(v)[0] for v in (probed.train(), probed.train(), probed.eval()))
    if not all(torch.equal(first, other) for other in others):
        return None
    x, y, t = (column.to(device) for column in fetch_all(dataset))
    return InMemoryDataset(x.contiguous(), y, t)


def probed_rows(n: int) -> list[int]:
    """Return the 256 of `n` samples, some repeated if `n` is smaller, that tell if they change."""
    return [i * n // _PROBED_SAMPLES for i in range(_PROBED_SAMPLES)]


def in_memory(benchmark: CLScenario, device: torch.device | str = "cpu") -> CLScenario:
    """Return `benchmark` with the dataset of every experience materialised on `device`.

    Streams, experiences and all their attributes stay the same, so any Avalanche strategy can use
    the result. Datasets with random transforms are not materialised; `benchmark` is not changed.

    Args:
        benchmark: Classification benchmark with finite streams; create online streams from the
            result.
        device: Device of the tensors; no batch is copied between devices if it is the training
            device.
    """
    result = copy(benchmark)
    streams = []
    for stream in benchmark.streams.values():
        experiences = []
        for original in stream:
            experience = original.logging()
            dataset = materialise(experience.dataset, device)
            if dataset is not None:
                experience._dataset = dataset
            experiences.append(experience)
        streams.append(EagerCLStream(stream.name, experiences, result))
    # A new CLScenario would lack attributes that users and strategies read, such as `n_classes`.
    CLScenario.__init__(result, streams)
    return result
