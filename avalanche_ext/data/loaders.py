"""Loaders over in-memory datasets, and the plugin that hands them to any strategy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import SingleDatasetDataLoader, TaskBalancedDataLoader
from avalanche.core import SupervisedPlugin
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from avalanche_ext.data.dataset import Batch, InMemoryDataset

_ROWS_PER_GATHER = 1024


class TensorLoader:
    """Iterate over an in-memory dataset in batches `[x, y, t]`, copies taken many at a time.

    Args:
        dataset: What to iterate over.
        batch_size: Rows per batch, at least 1; the last batch may be smaller.
        shuffle: Draw a new order in each pass.
        drop_last: Leave out a last batch that is smaller than the others.
        generator: Where orders are drawn from; torch's global generator if None.

    Raises:
        ValueError: If `batch_size` is below 1.
    """

    def __init__(
        self,
        dataset: InMemoryDataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, but is {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator

    def __len__(self) -> int:
        n, b = len(self.dataset), self.batch_size
        return n // b if self.drop_last else -(-n // b)

    def __iter__(self) -> Iterator[Batch]:
        size = self.batch_size
        n_rows = len(self) * size if self.drop_last else len(self.dataset)
        order = self._order()[:n_rows].to(self.dataset.y.device)
        step = max(1, _ROWS_PER_GATHER // size) * size
        for start in range(0, n_rows, step):
            # Rows are gathered even without shuffling: who gets a batch may write to it.
            gathered = self.dataset.fetch(order[start : start + step])
            yield from map(list, zip(*(torch.split(c, size) for c in gathered), strict=True))

    def _order(self) -> Tensor:
        n = len(self.dataset)
        return torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)


class InMemoryLoaders(SupervisedPlugin):  # type: ignore[misc]
    """Replace the loaders a strategy makes by default with `TensorLoader`s.

    It acts on experiences whose dataset is in memory and, in training, has one task label; it
    leaves alone a loader that another plugin has set. Evaluation draws no random number.

    Args:
        seed: Seed of the plugin's own generator, from which training orders are drawn.
    """

    supports_distributed = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = Generator().manual_seed(seed)

    def before_training_exp(
        self, strategy: Any, shuffle: bool = True, drop_last: bool = False, **kwargs: Any
    ) -> None:
        """Set the training loader, with the `shuffle` and `drop_last` that `train` was given."""
        dataset = strategy.adapted_dataset
        made_by_strategy = type(strategy.dataloader) in (TaskBalancedDataLoader, DataLoader)
        if made_by_strategy and isinstance(dataset, InMemoryDataset) and _has_one_task(dataset):
            strategy.dataloader = TensorLoader(
                dataset,
                strategy.train_mb_size,
                shuffle=shuffle,
                drop_last=drop_last,
                generator=self.generator,
            )

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Set the evaluation loader."""
        dataset = strategy.adapted_dataset
        made_by_strategy = type(strategy.dataloader) is SingleDatasetDataLoader
        if made_by_strategy and isinstance(dataset, InMemoryDataset):
            strategy.dataloader = TensorLoader(dataset, strategy.eval_mb_size)


def _has_one_task(dataset: InMemoryDataset) -> bool:
    return len(dataset) > 0 and bool((dataset.t == dataset.t[0]).all())
