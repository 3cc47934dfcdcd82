"""The data sets that experiment files can name, and torchvision's, as sources."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.benchmarks.images import class_folders, image_tree
from avalanche_ext.benchmarks.sources import (
    SPLIT_SEED,
    DataNotFoundError,
    Source,
    resolve_data_root,
)
from avalanche_ext.cache import Content, decoded
from avalanche_ext.data_root import DATA_ROOT_VARIABLE, given_data_root

_TEST_SHARE = 0.25
_CIFAR_SIZE = (3, 32, 32)


@lru_cache(maxsize=1)
def digits() -> Source:
    """Scikit-learn's 1,797 handwritten digits of 8×8 pixels, which need no download.

    A quarter of each class is used for testing. The split is the same for all seeds.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = data.images.astype(np.uint8)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images,
        data.target.astype(np.int64),
        test_size=_TEST_SHARE,
        random_state=SPLIT_SEED,
        stratify=data.target,
    )
    train_x, train_y, test_x, test_y = map(torch.from_numpy, (train_x, train_y, test_x, test_y))
    return Source(train_x, train_y, test_x, test_y, n_classes=10, white=16)


def mnist(data_root: Path | None = None) -> Source:
    """MNIST: 70,000 handwritten digits of 28×28 pixels."""
    return _of_torchvision("MNIST", data_root)


def fmnist(data_root: Path | None = None) -> Source:
    """Fashion-MNIST: 70,000 greyscale images of clothes of 28×28 pixels."""
    return _of_torchvision("FashionMNIST", data_root)


def cifar10(data_root: Path | None = None) -> Source:
    """CIFAR-10: 60,000 colour images of 32×32 pixels, as published or in folders of classes."""
    return _cifar("CIFAR10", 10, data_root)


def cifar100(data_root: Path | None = None) -> Source:
    """CIFAR-100: 60,000 colour images of 32×32 pixels, as published or in folders of classes."""
    return _cifar("CIFAR100", 100, data_root)


def image_folder(
    folder: str,
    image_size: PositiveInt | None = 32,
    channels: Literal[1, 3] | None = 3,
    data_root: Path | None = None,
) -> Source:
    """Images in FOLDER/{train,test}/CLASS; FOLDER is relative to the data root."""
    root = given_data_root(data_root) or Path()
    return image_tree((root / Path(folder).expanduser()).resolve(), image_size, channels)


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

    def decode() -> Content:
        parts = []
        for train in (True, False):
            try:
                part = make(str(root), train=train, download=False)
            except RuntimeError:
                part = _download(make, name, root, train)
            parts.append((channels_first(part.data), torch.as_tensor(part.targets).long()))
        (train_x, train_y), (test_x, test_y) = parts
        x_and_y = {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}
        return {**x_and_y, "n_classes": len(part.classes)}

    files = [str(root / file) for file in _needed_files(make, name)]
    return Source(**decoded(name, files, (name,), decode), white=255)


def channels_first(images: Any) -> Tensor:
    """Return images (N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    x = torch.as_tensor(images)
    return x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2).contiguous()


def _of_torchvision(name: str, data_root: Path | None) -> Source:
    return torchvision_source(name, resolve_data_root(data_root, name).resolve())


def _cifar(name: str, n_classes: int, data_root: Path | None) -> Source:
    """Load CIFAR from folders of classes in the data root if they exist, otherwise as published."""
    root = resolve_data_root(data_root, name).resolve()
    for folder in (root, root / name.lower(), root / name):
        if all(len(class_folders(folder / part)) == n_classes for part in ("train", "test")):
            source = image_tree(folder)
            if source.train_x.shape[1:] != _CIFAR_SIZE:
                raise ValueError(
                    f"{folder} has images of the shape {tuple(source.train_x.shape[1:])}, but "
                    f"{name} has {_CIFAR_SIZE} (channels, height, width): read another data set "
                    "by image_folder"
                )
            return source
    return _of_torchvision(name, data_root)


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
    """Return the first missing file, relative to `root`, that torchvision's `dataset` needs."""
    wanted = _needed_files(dataset, name)
    return next((path for path in wanted if not (root / path).exists()), wanted[0])


def _needed_files(dataset: Any, name: str) -> list[Path]:
    """Return the files that a data set of torchvision reads, relative to its root."""
    if hasattr(dataset, "base_folder"):
        lists = (*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], None))
        return [Path(dataset.base_folder, file) for file, _ in lists]
    return [Path(name, "raw", Path(file).stem) for file, _ in dataset.resources]
