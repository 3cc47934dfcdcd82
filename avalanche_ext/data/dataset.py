"""A classification dataset that holds its samples as three aligned tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from avalanche.benchmarks.utils import ConstantSequence, DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.benchmarks.utils.transform_groups import TransformGroups
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from avalanche_ext.data.joined import joined
from avalanche_ext.data.samples import Samples, SharedRows, held, rows_of
from avalanche_ext.data.views import SampleTransforms, Transform, drawing, draws_of

Batch = list[Tensor]


class _Samples(Dataset[tuple[Any, int]]):
    """The leaf of Avalanche's dataset tree, which it reads one `(x_i, y_i)` at a time."""

    def __init__(self, x: Samples, y: Tensor) -> None:
        self.x = x
        self.targets = y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x.one(index), self.targets[index]


class InMemoryDataset(TaskAwareSupervisedClassificationDataset):  # type: ignore[misc]
    """An Avalanche dataset that holds samples, labels and task labels as contiguous tensors.

    `subset` and `concat` return in-memory datasets. They copy samples only when the result is first
    read, so Avalanche's buffers, which chain both, hold only their own samples.

    Args:
        x: Samples, (N, ...), any dtype; or rows of a tensor that other datasets share, which are
            converted to samples when they are fetched.
        y: Class labels, (N,), int64.
        t: Task labels, (N,), int64.
        transform: Random augmentation of one sample, drawn each time a sample is fetched from the
            training view. None if `x` needs no random augmentation.
        evaluation: Transform of one sample in the view that `.eval()` returns, without random
            draws; None if that view returns `x` unchanged.

    Raises:
        ValueError: If the three tensors differ in length, or `y` or `t` is not a vector of int64.
    """

    def __init__(
        self,
        x: Tensor | SharedRows,
        y: Tensor,
        t: Tensor,
        transform: Transform | None = None,
        evaluation: Transform | None = None,
    ) -> None:
        if not len(x) == len(y) == len(t):
            raise ValueError(
                f"x, y and t must have equally many rows, but have {len(x)}, {len(y)} and {len(t)}"
            )
        for name, labels in (("y", y), ("t", t)):
            if labels.dtype != torch.int64 or labels.dim() != 1:
                raise ValueError(
                    f"{name} must be a vector of int64, "
                    f"but is {labels.dtype} of shape {tuple(labels.shape)}"
                )
        samples = x if isinstance(x, SharedRows) else held(x)
        self._initialise(samples, y, t, transform, evaluation)

    def _initialise(
        self,
        x: Samples,
        y: Tensor,
        t: Tensor,
        transform: Transform | None,
        evaluation: Transform | None,
        view: str = "train",
    ) -> None:
        self._x = x
        self.y = y
        self.t = t
        self.augmentation = transform
        self.evaluation = evaluation
        samples = _Samples(x, y)
        super().__init__(
            [samples],
            data_attributes=[DataAttribute(samples.targets, "targets"), _task_labels(t)],
            transform_groups=(
                TransformGroups({"train": transform, "eval": evaluation})
                if transform or evaluation
                else None
            ),
        )
        if view != "train":
            self._flat_data: Any = self._flat_data.with_transforms(view)

    @property
    def x(self) -> Tensor:
        """Samples as they are stored, before the transforms of a view, (N, ...).

        Samples made from a shared tensor are kept from then on, unlike with `fetch`.
        """
        return self._x.own()

    def fetch(self, rows: Tensor | slice) -> Batch:
        """Return the batch `[x, y, t]` of `rows`.

        Args:
            rows: Indices, (B,), int64, which return copies of the samples; or a slice, which
                returns views of the dataset's own tensors unless samples are transformed.
        """
        x, y, t = self._x.rows(rows), rows_of(self.y, rows), rows_of(self.t, rows)
        transform = self._transform
        if isinstance(transform, SampleTransforms) and len(x):
            x = transform.rows(x)
        elif transform is not None and len(x):
            x = torch.stack([transform(sample) for sample in x])
        return [x, y, t]

    def draws(self) -> Any:
        """Return the next generator states of the view's transform; None without a transform."""
        return draws_of(self._transform)

    def drawing(self, draws: Any) -> AbstractContextManager[None]:
        """Inside, repeat the transform's draws from states that `draws` has returned."""
        return drawing(self._transform, draws)

    def __getitem__(self, index: Any) -> Any:
        """Return `[x_i, y_i, t_i]` for an integer, a dataset for a slice."""
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        x, transform = self._x.one(index), self._transform
        return [x if transform is None else transform(x), int(self.y[index]), int(self.t[index])]

    def subset(self, indices: Iterable[int] | Tensor) -> InMemoryDataset:
        """Return the dataset of the samples at `indices`, in that order."""
        if not isinstance(indices, Tensor | Sequence):
            indices = list(indices)
        rows = torch.as_tensor(indices, dtype=torch.int64, device=self.y.device)
        return self._derived(self._x.taken(rows), rows_of(self.y, rows), rows_of(self.t, rows))

    def concat(self, other: Any) -> Any:
        """Return the dataset of these samples followed by those of `other`.

        The result is in memory if `other` is in memory too, on the same device and with the same
        transforms.
        """
        if len(other) == 0:
            return self
        if not self._is_like(other):
            return self._plain().concat(other)
        return self.joined([other])

    def joined(self, others: Sequence[InMemoryDataset]) -> InMemoryDataset:
        """Return the dataset of these samples followed by those of others like it.

        Raises:
            ValueError: If their transforms differ, or their devices.
        """
        if not all(map(self._is_like, others)):
            raise ValueError(
                "experiences with different transforms, such as random ones followed by different "
                "permutations, cannot be mixed: leave out train_transforms or iid"
            )
        datasets = [self, *others]
        sizes = [len(each) for each in datasets]
        x = joined([each._x for each in datasets], sizes, self.y.device)
        y, t = (torch.cat([getattr(each, name) for each in datasets]) for name in ("y", "t"))
        return self._derived(x, y, t)

    def to(self, device: torch.device | str) -> InMemoryDataset:
        """Return the dataset with its tensors on `device`."""
        return self._derived(self._x.to(device), self.y.to(device), self.t.to(device))

    # These methods need Avalanche's dataset tree, so they return plain datasets.

    def replace_current_transform_group(self, transform: Any) -> Any:
        """Return a plain Avalanche dataset with `transform` in place of the current view's."""
        return self._plain().replace_current_transform_group(transform)

    def remove_current_transform_group(self) -> Any:
        """Return a plain Avalanche dataset without the current view's transform."""
        return self._plain().remove_current_transform_group()

    def freeze_transforms(self) -> Any:
        """Return a plain Avalanche dataset whose transforms cannot be replaced."""
        return self._plain().freeze_transforms()

    def update_data_attribute(self, name: str, new_value: Any) -> Any:
        """Return a plain Avalanche dataset with a new or replaced attribute of its samples."""
        return self._plain().update_data_attribute(name, new_value)

    def _plain(self) -> Any:
        return TaskAwareSupervisedClassificationDataset([self])

    @property
    def _view(self) -> str:
        """The current transform group, "train" or "eval"."""
        return str(self._flat_data._transform_groups.current_group)

    @property
    def _transform(self) -> Transform | None:
        return self.augmentation if self._view == "train" else self.evaluation

    def _is_like(self, other: Any) -> bool:
        return (
            isinstance(other, InMemoryDataset)
            and other.augmentation is self.augmentation
            and other.evaluation is self.evaluation
            and other.y.device == self.y.device
        )

    def _derived(self, x: Samples, y: Tensor, t: Tensor) -> InMemoryDataset:
        derived = object.__new__(type(self))
        derived._initialise(x, y, t, self.augmentation, self.evaluation, self._view)
        return derived

    def __copy__(self) -> InMemoryDataset:
        # copy() would use `__reduce__`, which reads and copies the samples.
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce__(self) -> tuple[Any, ...]:
        # A view into a larger tensor would be pickled with all of it.
        columns = (self._x, self.y.clone(), self.t.clone())
        return _restored, (*columns, self.augmentation, self.evaluation, self._view)


def fetch_all(dataset: Any) -> Batch:
    """Return `[x, y, t]` of all samples of a non-empty dataset, in order, each fetched once.

    Task labels are 0 if the dataset has none. Only the dataset's transforms draw random numbers.
    """
    if isinstance(dataset, InMemoryDataset):
        return dataset.fetch(slice(None))
    collate = getattr(dataset, "collate_fn", default_collate)
    x, y, *more = collate([dataset[i] for i in range(len(dataset))])
    task_labels = getattr(dataset, "targets_task_labels", None)
    if task_labels is not None:
        # By name: other attributes, such as DER's logits, may follow them.
        return [x, y, torch.tensor([int(t) for t in task_labels])]
    return [x, y, more[-1] if more else torch.zeros_like(y)]


def _task_labels(t: Tensor) -> TaskLabels:
    labels = t.tolist()
    if len({*labels}) == 1:
        # Avalanche cannot append constant labels, such as those of iCaRL's memory, to a list.
        return TaskLabels(ConstantSequence(labels[0], len(labels)))
    return TaskLabels(labels)


def _restored(*columns: Any) -> InMemoryDataset:
    dataset = object.__new__(InMemoryDataset)
    dataset._initialise(*columns)
    return dataset
