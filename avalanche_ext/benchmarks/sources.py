"""Data sets as tensors, before they are split into experiences, and the folder of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from avalanche_ext.benchmarks.transforms import (
    N_PROBED,
    NOTHING,
    Preparation,
    transforms_of,
)
from avalanche_ext.data.views import Transform
from avalanche_ext.data_root import given_data_root

SPLIT_SEED = 0


@dataclass(frozen=True)
class Source:
    """A data set with its own split into training and test samples.

    Attributes:
        train_x: Training samples, (N, C, H, W), 0 .. `white`, in the data set's own dtype.
        train_y: Their classes, (N,), int64, 0 .. n_classes - 1.
        test_x: Test samples, (M, C, H, W), like `train_x`.
        test_y: Their classes, (M,), int64.
        n_classes: Number of classes.
        white: Value of a white pixel; the samples of a task are divided by it.
        transforms: Transforms of a task's samples after that.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int
    white: int = 1
    transforms: Preparation = NOTHING

    def train_images(self, x: Tensor) -> Tensor:
        """Return rows of `train_x` as floats, after the fixed transforms of training samples."""
        return self.transforms.fixed(x / self.white, "train")

    def test_images(self, x: Tensor) -> Tensor:
        """Return rows of `test_x` as floats, after the transforms of test samples."""
        return self.transforms.fixed(x / self.white, "test")


class DataNotFoundError(FileNotFoundError):
    """A data set was not found in its folder and could not be downloaded."""


def skipped(source: Source, skip: int | None) -> Source:
    """Return the data set without its first `skip` training samples; None skips none.

    Raises:
        ValueError: If no training sample would be left.
    """
    n = len(source.train_y)
    if skip is not None and skip >= n:
        raise ValueError(f"skip={skip} must be below {n}, the number of training samples")
    return replace(source, train_x=source.train_x[skip:], train_y=source.train_y[skip:])


def held_out(source: Source, validation_size: int | None) -> Source:
    """Return a data set whose test samples are replaced by random held-out training samples.

    Args:
        source: A data set.
        validation_size: Number of training samples to hold out, always the same ones; None returns
            `source`.

    Raises:
        ValueError: If no training sample would be left.
    """
    if validation_size is None:
        return source
    n = len(source.train_y)
    if validation_size >= n:
        raise ValueError(
            f"validation_size={validation_size} must be below {n}, the number of training samples"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    test, train = np.sort(order[:validation_size]), np.sort(order[validation_size:])
    x, y = source.train_x, source.train_y
    return replace(source, train_x=x[train], train_y=y[train], test_x=x[test], test_y=y[test])


def with_transforms(
    source: Source,
    train: Sequence[Transform] | None,
    test: Sequence[Transform] | None,
    seed: int,
) -> Source:
    """Return the data set with transforms of its samples; see `transforms_of`."""
    if not train and not test:
        return source
    images = source.train_x[:N_PROBED] / source.white
    return replace(source, transforms=transforms_of(train, test, images, seed))


def resolve_data_root(data_root: Path | None, name: str) -> Path:
    """Return the folder of the data: the given one, $AVALANCHE_EXT_DATA, or Avalanche's default."""
    root = given_data_root(data_root)
    if root is not None:
        return root
    from avalanche.benchmarks.datasets import default_dataset_location

    return Path(default_dataset_location(name.lower()))


def alternating(labels: Sequence[int]) -> list[int]:
    """Return the order of samples in which classes take turns, ascending in each turn.

    >>> alternating([0, 0, 1, 1])
    [0, 2, 1, 3]
    """
    y = np.asarray(labels)
    turns = np.empty_like(y)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        turns[rows] = np.arange(len(rows))
    order: list[int] = np.lexsort((y, turns)).tolist()
    return order
