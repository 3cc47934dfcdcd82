"""Data sets as tensors, before they are cut into experiences."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

DATA_ROOT_VARIABLE = "AVALANCHE_EXT_DATA"
_TEST_SHARE = 0.25
_SPLIT_SEED = 0


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
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int
    white: int = 1


class DataNotFoundError(FileNotFoundError):
    """A data set was not found in its folder and could not be downloaded."""


_TORCHVISION_NAMES = {
    "mnist": "MNIST",
    "fmnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def load(dataset: str, data_root: Path | None) -> Source:
    """Return the data set "digits", "mnist", "fmnist", "cifar10" or "cifar100".

    The data set that was read last stays in memory.
    """
    if dataset == "digits":
        return digits()
    name = _TORCHVISION_NAMES[dataset]
    return torchvision_source(name, resolve_data_root(data_root, name).resolve())


@lru_cache(maxsize=1)
def digits() -> Source:
    """Return scikit-learn's 1,797 handwritten digits of 8×8 pixels, which need no download.

    A quarter of each class is for testing. The split does not depend on any seed of a run.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images.astype(np.uint8)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images,
        data.target.astype(np.int64),
        test_size=_TEST_SHARE,
        random_state=_SPLIT_SEED,
        stratify=data.target,
    )
    train_x, train_y, test_x, test_y = map(torch.from_numpy, (train_x, train_y, test_x, test_y))
    return Source(train_x, train_y, test_x, test_y, n_classes=10, white=16)


@lru_cache(maxsize=1)
def torchvision_source(name: str, root: Path) -> Source:
    """Load a torchvision data set, and download it first if `root` lacks it.

    Args:
        name: "MNIST", "FashionMNIST", "CIFAR10" or "CIFAR100".
        root: Folder that torchvision takes as its root.

    Raises:
        DataNotFoundError: If it is absent and cannot be downloaded.
    """
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, name)
    parts = []
    for train in (True, False):
        try:
            part = make(str(root), train=train, download=False)
        except RuntimeError:
            part = _download(make, name, root, train)
        parts.append((_channels_first(part.data), torch.as_tensor(part.targets).long()))
    (train_x, train_y), (test_x, test_y) = parts
    return Source(train_x, train_y, test_x, test_y, n_classes=len(part.classes), white=255)


@lru_cache(maxsize=1)
def image_tree(folder: Path, image_size: int) -> Source:
    """Load `folder`/train/CLASS/IMAGE and `folder`/test/CLASS/IMAGE, resized to squares.

    Classes are numbered in alphabetical order of their folders. Samples are ordered so that the
    classes take turns, and the first samples include every class.

    Args:
        folder: Folder of the two parts.
        image_size: Height and width of the samples, in pixels.

    Raises:
        DataNotFoundError: If one of the two parts is missing.
        ValueError: If the two parts do not have the same classes.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    read = v2.Compose([v2.PILToTensor(), v2.Resize((image_size, image_size))])
    parts = []
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise DataNotFoundError(
                f"image_folder: there is no {folder / part}; images must be in "
                f"{part}/<class>/<image>"
            )
        images = ImageFolder(str(folder / part), transform=read)
        y = torch.tensor(images.targets)
        turn = one_hot(y).cumsum(0).gather(1, y[:, None]).squeeze(1)
        order = turn.argsort(stable=True)
        x = torch.stack([images[i][0] for i in order.tolist()])
        parts.append((x, y[order], images.classes))
    (train_x, train_y, classes), (test_x, test_y, test_classes) = parts
    if classes != test_classes:
        odd = sorted({*classes} ^ {*test_classes})
        raise ValueError(
            f"{folder}: train and test must have the same classes, but only one of them has "
            f"{', '.join(odd)}"
        )
    return Source(train_x, train_y, test_x, test_y, n_classes=len(classes), white=255)


def held_out(source: Source, validation_size: int | None) -> Source:
    """Return a data set whose test samples are replaced by random training samples, held out.

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
    order = np.random.default_rng(_SPLIT_SEED).permutation(n)
    test, train = np.sort(order[:validation_size]), np.sort(order[validation_size:])
    x, y = source.train_x, source.train_y
    return Source(x[train], y[train], x[test], y[test], source.n_classes, source.white)


def given_data_root(data_root: Path | None) -> Path | None:
    """Return `data_root`, else $AVALANCHE_EXT_DATA, else None."""
    if data_root is None and os.environ.get(DATA_ROOT_VARIABLE):
        return Path(os.environ[DATA_ROOT_VARIABLE])
    return data_root


def resolve_data_root(data_root: Path | None, name: str) -> Path:
    """Return the folder of the data: as given, $AVALANCHE_EXT_DATA, or Avalanche's default."""
    root = given_data_root(data_root)
    if root is not None:
        return root
    from avalanche.benchmarks.datasets import default_dataset_location

    return Path(default_dataset_location(name.lower()))


def _download(make: Callable[..., Any], name: str, root: Path, train: bool) -> Any:
    try:
        return make(str(root), train=train, download=True)
    except Exception as error:
        looked_for = _missing_file(make, name, root)
        raise DataNotFoundError(
            f"{name} not found: there is no {looked_for} in {root}, and the download failed; "
            f"set --data-root or {DATA_ROOT_VARIABLE} to the folder that holds it"
        ) from error


def _missing_file(dataset: Any, name: str, root: Path) -> Path:
    """Return the first file, relative to `root`, that `dataset` of torchvision needs and lacks."""
    if hasattr(dataset, "base_folder"):
        names = [name for name, _ in (*dataset.train_list, *dataset.test_list)]
        wanted = [Path(dataset.base_folder, name) for name in names]
    else:
        wanted = [Path(name, "raw", Path(file).stem) for file, _ in dataset.resources]
    return next((path for path in wanted if not (root / path).exists()), wanted[0])


def _channels_first(images: Any) -> Tensor:
    """Return images (N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    x = torch.as_tensor(images)
    return x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2).contiguous()
