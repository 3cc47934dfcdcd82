"""A classification dataset that holds its samples as three aligned tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import torch
from avalanche.benchmarks.utils import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from torch import Tensor
from torch.utils.data import Dataset

Transform = Callable[[Tensor], Tensor]
Batch = list[Tensor]


class _Lazy:
    """A tensor that is computed when first read, and forgets how it was computed."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make: Callable[[], Tensor] | None = make
        self._value: Tensor | None = None

    def read(self) -> Tensor:
        if self._make is not None:
            self._value, self._make = self._make(), None
        assert self._value is not None
        return self._value


class _Samples(Dataset[tuple[Any, int]]):
    """The leaf that Avalanche's own dataset tree reads: one `(x_i, y_i)` at a time."""

    def __init__(self, x: _Lazy, y: Tensor, transform: Transform | None) -> None:
        self.x = x
        self.targets = y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        x = self.x.read()[index]
        return (x if self.transform is None else self.transform(x)), self.targets[index]


class InMemoryDataset(TaskAwareSupervisedClassificationDataset):  # type: ignore[misc]
    """Samples, labels and task labels as contiguous tensors, wherever Avalanche wants a dataset.

    `subset` and `concat` give in-memory datasets again. They copy, but only when the result is
    first read, so Avalanche's buffers, which chain both, hold no more than their own samples.

    Args:
        x: Samples, (N, ...), any dtype.
        y: Class labels, (N,), int64.
        t: Task labels, (N,), int64.
        transform: Random augmentation of one sample, drawn anew whenever the sample is fetched
            from the training view (`.eval()` gives the view without it); None where every
            transformation is deterministic and already in `x`.

    Raises:
        ValueError: If the three tensors differ in length, or labels are not vectors of int64.
    """

    def __init__(self, x: Tensor, y: Tensor, t: Tensor, transform: Transform | None = None) -> None:
        if not len(x) == len(y) == len(t):
            raise ValueError(
                f"x, y and t must be aligned, but have {len(x)}, {len(y)} and {len(t)} rows"
            )
        for name, labels in (("y", y), ("t", t)):
            if labels.dtype != torch.int64 or labels.dim() != 1:
                raise ValueError(
                    f"{name} must be a vector of int64, "
                    f"but is {labels.dtype} of shape {tuple(labels.shape)}"
                )
        self._initialise(_Lazy(lambda: x), y, t, transform)

    def _initialise(self, x: _Lazy, y: Tensor, t: Tensor, transform: Transform | None) -> None:
        self._x = x
        self.y = y
        self.t = t
        self.augmentation = transform
        samples = _Samples(x, y, transform)
        attributes = [DataAttribute(samples.targets, "targets"), TaskLabels(t.tolist())]
        super().__init__([samples], data_attributes=attributes)

    @property
    def x(self) -> Tensor:
        """Samples before augmentation, (N, ...)."""
        return self._x.read()

    def fetch(self, rows: Tensor | slice) -> Batch:
        """Return the batch `[x, y, t]` of the given rows, indices (B,) or a slice."""
        return [self.augmented(self.x[rows]), self.y[rows], self.t[rows]]

    def augmented(self, x: Tensor) -> Tensor:
        """Augment each of the samples `x`, (B, ...), by a draw of its own."""
        if self.augmentation is None:
            return x
        return torch.stack([self.augmentation(sample) for sample in x])

    def __getitem__(self, index: Any) -> Any:
        """Return `[x_i, y_i, t_i]` for an integer, a dataset for a slice."""
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        x = self.x[index]
        if self.augmentation is not None:
            x = self.augmentation(x)
        return [x, int(self.y[index]), int(self.t[index])]

    def subset(self, indices: Iterable[int] | Tensor) -> InMemoryDataset:
        """Return the dataset of the samples at `indices`, in that order."""
        if not isinstance(indices, Tensor | Sequence):
            indices = list(indices)
        rows = torch.as_tensor(indices, dtype=torch.int64, device=self.y.device)
        x = self._x
        return self._derived(_Lazy(lambda: x.read()[rows]), self.y[rows], self.t[rows])

    def concat(self, other: Any) -> Any:
        """Return the dataset of these samples followed by those of `other`."""
        if len(other) == 0:
            return self
        if not self._is_like(other):
            return self._plain().concat(other)
        x, tail = self._x, other._x
        y, t = torch.cat([self.y, other.y]), torch.cat([self.t, other.t])
        return self._derived(_Lazy(lambda: torch.cat([x.read(), tail.read()])), y, t)

    def with_transforms(self, group_name: str) -> InMemoryDataset:
        """Return the view of transform group "train" or "eval"; the latter has no augmentation."""
        view: InMemoryDataset = super().with_transforms(group_name)
        if group_name == "eval":
            view.augmentation = None
        return view

    def replace_current_transform_group(self, transform: Any) -> Any:
        """Return a plain Avalanche dataset of these samples with `transform` in place."""
        return self._plain().replace_current_transform_group(transform)

    def _is_like(self, other: Any) -> bool:
        return (
            isinstance(other, InMemoryDataset)
            and other.augmentation is self.augmentation
            and other.y.device == self.y.device
        )

    def _plain(self) -> Any:
        """The same samples as Avalanche's own class, for what only its dataset tree can do."""
        return TaskAwareSupervisedClassificationDataset(
            [_Samples(self._x, self.y, self.augmentation)],
            data_attributes=[self.targets, self.targets_task_labels],
        )

    def _derived(self, x: _Lazy, y: Tensor, t: Tensor) -> InMemoryDataset:
        derived = copy(self)
        derived._initialise(x, y, t, self.augmentation)
        return derived

    def __copy__(self) -> InMemoryDataset:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce__(self) -> tuple[Any, ...]:
        # A view into a larger tensor would be pickled with all of it.
        columns = (self.x.clone(), self.y.clone(), self.t.clone())
        return InMemoryDataset, (*columns, self.augmentation)
