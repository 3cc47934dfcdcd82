"""Fetch the samples of any Avalanche benchmark once, and keep them as tensors."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.benchmarks import CLScenario, EagerCLStream
from avalanche.training.utils import load_all_dataset

from avalanche_ext.data.dataset import Batch, InMemoryDataset

_PROBED_SAMPLES = 256


def materialise(dataset: Any, device: torch.device | str = "cpu") -> InMemoryDataset | None:
    """Return `dataset` in memory, or None if its samples change from one fetch to the next.

    A dataset with random transforms must stay as it is, or its augmentation would be frozen. It
    is recognised by what it does: up to 256 of its samples are fetched twice and compared, also
    between its training and evaluation views.

    Args:
        dataset: Avalanche classification dataset of tensor samples with task labels.
        device: Where the tensors shall lie.
    """
    if isinstance(dataset, InMemoryDataset):
        x, y, t = (column.to(device) for column in (dataset.x, dataset.y, dataset.t))
        return InMemoryDataset(x, y, t, dataset.augmentation)
    probed = dataset.subset(range(0, len(dataset), max(1, len(dataset) // _PROBED_SAMPLES)))
    first = fetch_all(probed.train())[0]
    if any(not torch.equal(fetch_all(view)[0], first) for view in (probed.train(), probed.eval())):
        return None
    x, y, t = (column.to(device) for column in fetch_all(dataset))
    return InMemoryDataset(x.contiguous(), y, t)


def fetch_all(dataset: Any) -> Batch:
    """Return `[x, y, t]` of all samples of a non-empty dataset, each fetched once."""
    if isinstance(dataset, InMemoryDataset):
        return dataset.fetch(slice(None))
    return list(load_all_dataset(dataset))


def in_memory(benchmark: CLScenario, device: torch.device | str = "cpu") -> CLScenario:
    """Return `benchmark` with the dataset of every experience materialised on `device`.

    Streams, experiences and their attributes stay what they were, for any strategy of Avalanche.
    Datasets with random transforms are left alone.

    Args:
        benchmark: Classification benchmark whose streams are finite; online streams are best cut
            from its result.
        device: Where the tensors shall lie; loaders on the training device copy nothing.
    """
    streams = []
    for stream in benchmark.streams.values():
        experiences = []
        for original in stream:
            experience = original.logging()
            dataset = materialise(experience.dataset, device)
            if dataset is not None:
                experience._dataset = dataset
            experiences.append(experience)
        streams.append(EagerCLStream(stream.name, experiences, benchmark))
    return CLScenario(streams)
