"""Loaders over in-memory datasets, and the plugin that gives them to any strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import SingleDatasetDataLoader, TaskBalancedDataLoader
from avalanche.core import SupervisedPlugin
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from avalanche_ext.data.dataset import Batch, InMemoryDataset
from avalanche_ext.data.experiences import Strategy
from avalanche_ext.state import encoded, restored

_ROWS_PER_GATHER = 1024


@dataclass
class _Pass:
    """The progress of a pass over a dataset.

    Attributes:
        order: The rows in the order of the pass, (n,).
        given: The number of batches returned so far.
        draws: The generator states of the dataset's transform when the current rows were fetched.
    """

    order: Tensor
    given: int = 0
    draws: Any = None


class TensorLoader:
    """Batches `[x, y, t]` of an in-memory dataset, copied from it many rows at a time.

    A pass can be interrupted and resumed, even in another process; see `state_dict`.

    Args:
        dataset: The dataset to iterate over.
        batch_size: Rows per batch, at least 1; the last batch may be smaller.
        shuffle: Whether each pass draws a new order.
        drop_last: Whether to drop a last batch that is smaller than the others.
        generator: The generator that draws orders; torch's global generator if None.

    Attributes:
        before_batch: Called before each batch is taken, once all earlier ones have been used; None
            calls nothing.

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
        self.before_batch: Callable[[], None] | None = None
        self._pass: _Pass | None = None
        self._is_left = False

    def __len__(self) -> int:
        n, b = len(self.dataset), self.batch_size
        return n // b if self.drop_last else -(-n // b)

    def __iter__(self) -> Iterator[Batch]:
        if self._pass is None or not self._is_left:
            self._pass = _Pass(self._order())
        self._is_left = False
        now = self._pass
        size, per_gather = self.batch_size, max(1, _ROWS_PER_GATHER // self.batch_size)
        n_rows = len(self) * size if self.drop_last else len(self.dataset)
        order = now.order[:n_rows].to(self.dataset.y.device)
        gathered: list[tuple[Tensor, ...]] = []
        while now.given < len(self):
            if self.before_batch:
                self.before_batch()
            first, i = divmod(now.given, per_gather)
            if not gathered or i == 0:
                rows = order[first * per_gather * size : (first + 1) * per_gather * size]
                if i == 0:
                    now.draws = self.dataset.draws()
                # Rows are copied even without shuffling, because users may write to a batch.
                fetched = self.dataset.fetch(rows) if i == 0 else self._again(rows, now.draws)
                gathered = [*zip(*(torch.split(c, size) for c in fetched), strict=True)]
            now.given += 1
            yield [*gathered[i]]
        self._pass = None

    def _again(self, rows: Tensor, draws: Any) -> Batch:
        """Fetch rows again with the same draws as before."""
        with self.dataset.drawing(draws):
            return self.dataset.fetch(rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of the current pass as tensors and plain data; empty without one."""
        return encoded(vars(self._pass)) if self._pass else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next pass continue where another loader of the same data was."""
        self._pass = _Pass(**restored(state)) if state else None
        self._is_left = self._pass is not None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "before_batch": None, "_pass": None, "_is_left": False}

    def _order(self) -> Tensor:
        n = len(self.dataset)
        return torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)


class RepeatedBatches:
    """The batches of another loader, each repeated several times.

    Args:
        loader: The other loader, whose attributes this one shares.
        repeats: Number of times each batch is returned, at least 1.

    Attributes:
        repeat: Number of times the current batch was returned before, from 0.
    """

    def __init__(self, loader: Any, repeats: int) -> None:
        self.loader = loader
        self.repeats = repeats
        self.repeat = 0

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # It does not exist yet while being copied.
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader) * self.repeats

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            for repeat in range(self.repeats):
                self.repeat = repeat
                yield [*batch]  # Plugins may replace columns of the list.


def begins_batch(strategy: Strategy) -> bool:
    """Return whether this iteration is the first on its mini-batch, repeated or not."""
    loader = strategy.dataloader
    return not isinstance(loader, RepeatedBatches) or loader.repeat == 0


def ends_batch(strategy: Strategy) -> bool:
    """Return whether this iteration is the last on its mini-batch."""
    loader = strategy.dataloader
    return not isinstance(loader, RepeatedBatches) or loader.repeat == loader.repeats - 1


class InMemoryLoaders(SupervisedPlugin):  # type: ignore[misc]
    """Replace a strategy's default loaders with `TensorLoader`s.

    This applies to experiences whose dataset is in memory and, in training, has one task label.
    Loaders set by another plugin are kept. Evaluation draws no random numbers.

    Args:
        seed: Seed of the plugin's own generator, which draws training orders.
    """

    supports_distributed = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = Generator().manual_seed(seed)

    def before_training_exp(
        self, strategy: Strategy, shuffle: bool = True, drop_last: bool = False, **kwargs: Any
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

    def before_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Set the evaluation loader."""
        dataset = strategy.adapted_dataset
        made_by_strategy = type(strategy.dataloader) is SingleDatasetDataLoader
        if made_by_strategy and isinstance(dataset, InMemoryDataset):
            strategy.dataloader = TensorLoader(dataset, strategy.eval_mb_size)


def _has_one_task(dataset: InMemoryDataset) -> bool:
    return len(dataset) > 0 and bool((dataset.t == dataset.t[0]).all())
