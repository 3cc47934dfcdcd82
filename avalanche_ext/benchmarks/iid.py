"""All tasks at once: a benchmark's training samples in random order."""

from __future__ import annotations

import torch
from avalanche.benchmarks import CLScenario
from pydantic import PositiveInt
from torch import Generator

from avalanche_ext.benchmarks.build import assemble
from avalanche_ext.data import InMemoryDataset
from avalanche_ext.validation import validated


@validated
def iid_stream(benchmark: CLScenario, epochs: PositiveInt, seed: int) -> CLScenario:
    """Return the benchmark whose training samples come independently of their tasks.

    `epochs` passes over the union of all training samples, each in a random order of its own,
    follow one another. They are cut into as many experiences as `benchmark` has, of equal length
    or, where that does not divide, of lengths that differ by one: its transfer matrix stays
    square, and the last row tells what was learned of all. Each experience is to be trained on
    for one epoch; a loader that shuffles changes the order within an experience only.

    Args:
        benchmark: One with datasets in memory and one task label, as `build_benchmark` makes them
            for the scenarios "class" and "domain"; it is not changed.
        epochs: How often each training sample comes. Each costs a copy of the training samples.
        seed: Seed of the orders.

    Returns:
        A benchmark with these training experiences and the test datasets of `benchmark`.

    Raises:
        ValueError: If the training samples have several task labels.
    """
    whole = _union([experience.dataset for experience in benchmark.train_stream])
    task_labels = torch.unique(whole.t).tolist()
    if len(task_labels) > 1:
        raise ValueError(f"benchmark must have one task label, but has {task_labels}")
    generator = Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(whole), generator=generator) for _ in range(epochs)])
    parts = [whole.subset(rows) for rows in order.tensor_split(len(benchmark.train_stream))]
    streams = {
        "train": parts,
        "test": [experience.dataset for experience in benchmark.test_stream],
    }
    return assemble(streams, [torch.unique(part.y) for part in parts])


def _union(datasets: list[InMemoryDataset]) -> InMemoryDataset:
    x, y, t = (torch.cat([getattr(data, name) for data in datasets]) for name in ("x", "y", "t"))
    return InMemoryDataset(x, y, t, datasets[0].augmentation)
