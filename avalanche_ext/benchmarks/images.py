"""Single images and folders of images, as tensors of one size."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from avalanche_ext.benchmarks.sources import DataNotFoundError, Source, alternating
from avalanche_ext.cache import Content, decoded

Channels = Literal[1, 3]
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24
_FILES_AT_A_TIME = 64
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@lru_cache(maxsize=1)
def image_tree(
    folder: Path, image_size: int | None = None, channels: Channels | None = 3
) -> Source:
    """Load `folder`/train/CLASS/IMAGE and `folder`/test/CLASS/IMAGE.

    Classes are numbered in alphabetical order of their folders. Samples are ordered so that the
    classes take turns, and the first samples include every class. Names that begin with a dot are
    skipped.

    Args:
        folder: Folder of the two parts.
        image_size: Height and width in pixels that images are resized to; None does not resize, and
            then all images must have the same size.
        channels: Number of channels; None keeps greyscale images if all images are greyscale.

    Raises:
        DataNotFoundError: If one of the two parts is missing or empty.
        ValueError: If the two parts do not have the same classes, or an image cannot be used.
    """
    parts = []
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise DataNotFoundError(
                f"image_folder: there is no {folder / part}; images must be in "
                f"{part}/<class>/<image>"
            )
        files, labels, classes = _listed(folder / part)
        order = alternating(labels)
        parts.append(([files[i] for i in order], torch.tensor(labels)[order], classes))
    (train, train_y, classes), (test, test_y, test_classes) = parts
    if classes != test_classes:
        odd = sorted({*classes} ^ {*test_classes})
        raise ValueError(
            f"{folder}: train and test must have the same classes, but only one of them has "
            f"{', '.join(odd)}"
        )

    def decode() -> Content:
        train_x, test_x = (images_of(each, image_size, channels) for each in (train, test))
        check_parts_alike(train_x, test_x, str(folder))
        return {"train_x": train_x, "test_x": test_x}

    x = decoded(folder.name, [*train, *test], (len(train), image_size, channels), decode)
    return Source(x["train_x"], train_y, x["test_x"], test_y, n_classes=len(classes), white=255)


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder` that can be classes, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        each.name for each in os.scandir(folder) if each.is_dir() and not each.name.startswith(".")
    )


def _listed(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Return the images below the folders of classes, their labels, and the classes."""
    classes = class_folders(folder)
    if not classes:
        raise DataNotFoundError(f"{folder} has no folders of classes: images must be in <class>/")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        n_before = len(files)
        for parent, folders, names in os.walk(folder / name, followlinks=True):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            files += [
                os.path.join(parent, each)
                for each in sorted(names)
                if each.lower().endswith(_EXTENSIONS) and not each.startswith(".")
            ]
        if len(files) == n_before:
            raise DataNotFoundError(
                f"{folder / name} is taken for a class but has no image ({', '.join(_EXTENSIONS)})"
            )
        labels += [label] * (len(files) - n_before)
    return files, labels, classes


def images_of(files: Sequence[str], image_size: int | None, channels: int | None) -> Tensor:
    """Return the pixels of image files, (N, C, H, W), uint8; raises the errors of `alike`."""
    return alike(_read_all(files), files, image_size, channels)


def _read_all(files: Sequence[str]) -> list[Tensor]:
    parts = [files[i : i + _FILES_AT_A_TIME] for i in range(0, len(files), _FILES_AT_A_TIME)]
    # Pillow releases the GIL while decoding.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        images = pool.map(lambda part: [read_image(Path(file)) for file in part], parts)
        return [image for part in images for image in part]


def read_image(file: Path) -> Tensor:
    """Return an image file's pixels, (C, H, W), uint8, C 1 or 3.

    Raises:
        ValueError: If the file cannot be read as an image of 8 bits per channel; the message names
            the file.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(_PNG_DEPTH + 1)
            if head.startswith(_PNG) and head[_PNG_DEPTH:] == b"\x10":
                raise ValueError(_TOO_DEEP)
            stream.seek(0)
            with Image.open(stream) as image:
                return from_pil(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file} cannot be used: {error}") from error


_TOO_DEEP = "it has more than 8 bits a channel; convert it to 8 bits"


def from_pil(image: Any) -> Tensor:
    """Return the pixels of a Pillow image, (C, H, W), uint8, C 1 or 3.

    Raises:
        ValueError: If it has more than 8 bits per channel.
    """
    if image.mode.startswith(_DEEP):
        raise ValueError(_TOO_DEEP)
    wanted = "L" if image.mode in _GREY else "RGB"
    image.load()
    pixels = np.array(image if image.mode == wanted else image.convert(wanted))
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).permute(2, 0, 1)


def alike(
    images: Sequence[Tensor], names: Sequence[str], image_size: int | None, channels: int | None
) -> Tensor:
    """Return images (C, H, W) as one tensor (N, C, H, W).

    Args:
        images: Images of one dtype.
        names: Their names in error messages.
        image_size: Height and width to resize to; None if all have one size.
        channels: 1 converts all images to grey, 3 to colour; None converts grey images to colour if
            some images have colour.

    Raises:
        ValueError: If they differ in size or number of channels; the message names the first that
            differs.
    """
    n_channels = channels or (3 if {len(image) for image in images} == {1, 3} else None)
    rows: list[Tensor] = []
    for image, name in zip(images, names, strict=True):
        row = image if n_channels is None else with_channels(image, n_channels, name)
        row = row if image_size is None else resized(row, image_size)
        if rows and row.shape != rows[0].shape:
            raise ValueError(
                f"{name} has the shape {tuple(row.shape)}, but {names[0]} has "
                f"{tuple(rows[0].shape)} (channels, height, width): give image_size"
            )
        if row.dtype != images[0].dtype:
            raise ValueError(f"{name} is {row.dtype}, but {names[0]} is {images[0].dtype}")
        rows.append(row)
    return torch.stack(rows)


def check_parts_alike(train_x: Tensor, test_x: Tensor, name: str) -> None:
    """Raise ValueError unless training and test images have the same shape."""
    if train_x.shape[1:] != test_x.shape[1:]:
        raise ValueError(
            f"{name}: training images have the shape {tuple(train_x.shape[1:])}, but test images "
            f"{tuple(test_x.shape[1:])} (channels, height, width): give image_size and channels"
        )


def resized(x: Tensor, size: int) -> Tensor:
    """Return images (…, H, W) resized to squares, bilinearly and with antialiasing."""
    if x.shape[-2:] == (size, size):
        return x
    resize: Callable[..., Tensor] = functional.resize
    return resize(x, [size, size], antialias=True)


def with_channels(x: Tensor, channels: int, name: str) -> Tensor:
    """Return images (…, C, H, W) in grey (1) or colour (3); errors call them `name`."""
    found = x.shape[-3]
    if found == channels:
        return x
    if {found, channels} != {1, 3}:
        raise ValueError(f"{name} has {found} channels, which cannot be made {channels}")
    if channels == 3:
        return x.expand(*x.shape[:-3], 3, *x.shape[-2:])
    grey: Tensor = functional.rgb_to_grayscale(x)
    return grey
