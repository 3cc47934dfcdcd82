"""Any data set of (image, label) pairs as a source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import get_image_backend
from torchvision.datasets.folder import DatasetFolder, default_loader

from avalanche_ext.benchmarks import datasets
from avalanche_ext.benchmarks.images import (
    alike,
    check_parts_alike,
    from_pil,
    resized,
    with_channels,
)
from avalanche_ext.benchmarks.sources import DataNotFoundError, Source, resolve_data_root
from avalanche_ext.cache import Content, decoded
from avalanche_ext.data.materialise import probed_rows
from avalanche_ext.data.views import seeded_generators

_OURS: dict[str, Callable[..., Source]] = {
    "digits": datasets.digits,
    "mnist": datasets.mnist,
    "fmnist": datasets.fmnist,
    "cifar10": datasets.cifar10,
    "cifar100": datasets.cifar100,
    "image_folder": datasets.image_folder,
}
_WHITE = {torch.uint8: 255, torch.float32: 1}
_PARTS: dict[str, tuple[Any, Any]] = {"train": (True, False), "split": ("train", "test")}
"""Constructor parameters that choose the part, and their values for training and test."""
_PATHS = ("dataset_root", "data_root")
"""Constructor parameters that get the folder of the data as a Path."""


@dataclass(frozen=True)
class Request:
    """A data set to load, and how to load it.

    Attributes:
        dataset: One of the package's names; a class or function that creates a data set of pairs, a
            training and a test data set, or a Source; or a pair of data sets.
        args: Arguments of both parts.
        train: Arguments of the training part, added to `args`.
        test: Arguments of the test part, added to `args`.
        image_size: Height and width that images are resized to; None leaves them.
        channels: 1 for grey, 3 for colour; None leaves them.
    """

    dataset: Any
    args: Mapping[str, Any]
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    image_size: int | None = None
    channels: int | None = None

    @property
    def name(self) -> str:
        """The name of the data set in error messages."""
        if isinstance(self.dataset, tuple):
            return type(self.dataset[0]).__name__
        return str(getattr(self.dataset, "__name__", self.dataset))


def open_source(request: Request, data_root: Path | None, seed: int) -> Source:
    """Load a data set.

    If constructors have parameters of these names, they are filled in unless the request sets them:
    `root` (a text), `dataset_root` and `data_root` (a Path) with the folder of the data, `seed`
    with the run's seed, and `train` or `split` with the part. `download` is true only if the data
    are absent.

    Raises:
        DataNotFoundError: If it is absent.
        ValueError: If the two parts would be the same or number classes differently, or a sample is
            not an image with a label or changes from one reading to the next.
    """
    made = request.dataset
    if isinstance(made, str):
        if made not in _OURS:
            raise ValueError(f"unknown dataset '{made}': use one of {', '.join(_OURS)}, or a class")
        made = _OURS[made]
    if callable(made):
        made = _made(replace(request, dataset=made), data_root, seed)
    if isinstance(made, Source):
        return _resized(made, request)
    if not (isinstance(made, tuple | list) and len(made) == 2):
        raise ValueError(
            f"{request.name} gave one {type(made).__name__}, but a training and a test data set "
            "are needed: give 'train' and 'test' the arguments of each part, or return both"
        )
    return _collected(made[0], made[1], request)


def _made(request: Request, data_root: Path | None, seed: int) -> Any:
    parameters = parameters_of(request.dataset)
    named = {**request.args, **request.train, **request.test}
    part = next((key for key in _PARTS if key in parameters and key not in request.args), None)
    if part is None and not request.train and not request.test:
        return _called(request, request.args, data_root, seed)
    halves = []
    for i, own in enumerate((request.train, request.test)):
        given = {**request.args, **own}
        # `split` next to a `train` parameter means something else, as in EMNIST.
        if part is not None and part not in named:
            given[part] = _PARTS[part][i]
        halves.append(_called(request, given, data_root, seed))
    return tuple(halves)


def _called(request: Request, given: Mapping[str, Any], data_root: Path | None, seed: int) -> Any:
    make = request.dataset
    parameters = parameters_of(make)
    root = resolve_data_root(data_root, request.name)
    asked: dict[str, Any] = {"root": str(root), **dict.fromkeys(_PATHS, root)}
    if make in _OURS.values():
        asked["data_root"] = data_root  # Each has its own default.
    asked["seed"] = seed
    filled = {name: value for name, value in asked.items() if name in parameters}
    unknown = [name for name in given if name not in parameters]
    if unknown and not has_open_end(make):
        known = ", ".join(parameters)
        raise ValueError(f"{request.name} has no argument '{unknown[0]}'; it has {known}")
    folders = {
        key: Path(given[key]).expanduser()
        for key in ("root", *_PATHS)
        if isinstance(given.get(key), str | Path)
    }
    as_paths = {key: folder for key, folder in folders.items() if key in _PATHS}
    arguments = {**filled, **given, **as_paths}
    if "download" not in parameters or "download" in given:
        try:
            return make(**arguments)
        except FileNotFoundError as absent:
            if all(folder.is_absolute() for folder in folders.values()):
                raise
            raise DataNotFoundError(
                f"{request.name} not found: {absent}; a relative path starts in the current "
                f"folder, {Path.cwd()}"
            ) from absent
    try:
        return make(**arguments, download=False)
    except (RuntimeError, OSError) as absent:
        try:
            return make(**arguments, download=True)
        except Exception as error:
            where = next(iter(folders.values()), root).absolute()
            raise DataNotFoundError(
                f"{request.name} not found in {where} ({absent}), and the download failed ({error})"
            ) from error


def parameters_of(make: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the named parameters of a class or function, including those of its `**kwargs`."""
    found: dict[str, Parameter] = {}
    for each in _constructors(make):
        parameters = signature(each).parameters.values()
        for parameter in parameters:
            if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            break
    found.pop("self", None)
    return found


def has_open_end(make: Callable[..., Any]) -> bool:
    """Return whether a class or function accepts arguments that its signature does not name."""
    return all(
        any(p.kind is Parameter.VAR_KEYWORD for p in signature(each).parameters.values())
        for each in _constructors(make)
    )


def _constructors(make: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not isinstance(make, type):
        return [make]
    return [vars(base)["__init__"] for base in make.__mro__[:-1] if "__init__" in vars(base)]


def _resized(source: Source, request: Request) -> Source:
    parts = []
    for x in (source.train_x, source.test_x):
        if request.channels is not None:
            x = with_channels(x, request.channels, request.name)
        parts.append(x if request.image_size is None else resized(x, request.image_size))
    return replace(source, train_x=parts[0], test_x=parts[1])


def _collected(train: Any, test: Any, request: Request) -> Source:
    _check_classes_alike(train, test, request.name)
    parts = [_part(train, "train", request), _part(test, "test", request)]
    (train_x, train_y), (test_x, test_y) = parts
    if train_x.dtype != test_x.dtype:
        raise ValueError(
            f"{request.name}: training images are {train_x.dtype}, but test images {test_x.dtype}"
        )
    if request.channels is None and {train_x.shape[1], test_x.shape[1]} == {1, 3}:
        train_x, test_x = (with_channels(x, 3, request.name) for x in (train_x, test_x))
    check_parts_alike(train_x, test_x, request.name)
    # Labels may have gaps or begin at 1.
    classes = torch.unique(torch.cat([train_y, test_y]))
    train_y, test_y = (torch.searchsorted(classes, y) for y in (train_y, test_y))
    return Source(
        train_x, train_y, test_x, test_y, n_classes=len(classes), white=_WHITE[train_x.dtype]
    )


def _check_classes_alike(train: Any, test: Any, name: str) -> None:
    """Raise ValueError if the parts number named classes differently, as two folders can."""
    of_train, of_test = (getattr(part, "class_to_idx", None) for part in (train, test))
    if not isinstance(of_train, Mapping) or not isinstance(of_test, Mapping):
        return
    classes = {number: label for label, number in of_train.items()}
    for label, number in of_test.items():
        if of_train.get(label, number) != number or classes.get(number, label) != label:
            others = f"{classes[number]!r}" if number in classes else "no class"
            raise ValueError(
                f"{name}: label {number} is the class {label!r} of the test part, but {others} of "
                "the training part: give both parts the same classes"
            )


def _part(data: Any, part: str, request: Request) -> tuple[Tensor, Tensor]:
    name = f"{request.name} ({part})"
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise ValueError(f"{name} is a {type(data).__name__}, but must have a length and items")
    if not len(data):
        raise ValueError(f"{name} has no samples")
    at_once = _columns(data)
    if at_once is None:

        def decode() -> Content:
            images, labels, names = zip(*_pairs(data, name, range(len(data))), strict=True)
            _check_fixed(data, name, images, labels)
            x = alike(images, names, request.image_size, request.channels)
            return {"x": x, "y": torch.tensor(labels)}

        how = (request.image_size, request.channels)
        content = _from_files(data, f"{request.name}_{part}", how, decode) or decode()
        return content["x"], content["y"]
    x, y = at_once
    x = x if request.channels is None else with_channels(x, request.channels, name)
    return (x if request.image_size is None else resized(x, request.image_size)), y


def _columns(data: Any) -> tuple[Tensor, Tensor] | None:
    """Return all samples of a torchvision data set that holds them as an array; None otherwise."""
    if not type(data).__module__.startswith("torchvision.") or data.transforms is not None:
        return None
    pixels, targets = getattr(data, "data", None), getattr(data, "targets", None)
    if not isinstance(pixels, Tensor | np.ndarray) or targets is None or len(pixels.shape) < 3:
        return None
    x, y = datasets.channels_first(pixels), torch.as_tensor(targets).long()
    if x.dtype != torch.uint8 or x.dim() != 4 or len(x) != len(data):
        return None
    for row in (0, len(data) - 1):
        image, label = data[row]
        if int(label) != int(y[row]) or not torch.equal(from_pil(image), x[row]):
            return None
    return x, y


def _from_files(
    data: Any, name: str, how: Sequence[object], decode: Callable[[], Content]
) -> Content | None:
    """Return the samples of files that only torchvision's own code reads; None for other data."""
    is_theirs = (
        isinstance(data, DatasetFolder)
        and type(data).__getitem__ is DatasetFolder.__getitem__
        and data.loader is default_loader
        and data.transform is data.target_transform is None
    )
    if not is_theirs:
        return None
    listed, labels = zip(*data.samples, strict=True)
    files = [os.path.abspath(file) for file in listed]  # Relative ones may mean others elsewhere.
    return decoded(name, files, (get_image_backend(), *how, labels), decode)


def _check_fixed(data: Any, name: str, images: Sequence[Tensor], labels: Sequence[int]) -> None:
    """Raise ValueError if samples differ when they are read again, as random transforms make them.

    The second reading changes no global generator, and draws other numbers than the first.
    """
    rows = probed_rows(len(data))
    with seeded_generators([0]):
        for row, (image, label, _) in zip(rows, _pairs(data, name, rows), strict=True):
            if label != labels[row] or not torch.equal(image, images[row]):
                raise ValueError(
                    f"{name}: its samples change from one reading to the next, but a data set is "
                    "read only once: make them fixed, and list random transforms in "
                    "train_transforms"
                )


def _pairs(data: Any, name: str, rows: Sequence[int]) -> Iterator[tuple[Tensor, int, str]]:
    files = getattr(data, "samples", None)
    for index in rows:
        where = f"{name}, sample {index}"
        if isinstance(files, Sequence) and len(files) == len(data):
            file = files[index][0] if isinstance(files[index], tuple) else files[index]
            where = str(file) if isinstance(file, str | Path) else where
        try:
            pair = data[index]
        except Exception as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        if not isinstance(pair, tuple | list) or len(pair) < 2:
            raise ValueError(f"{where} is a {type(pair).__name__}, but must be (image, label)")
        try:
            yield _image(pair[0]), _label(pair[1]), where
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _label(label: Any) -> int:
    value = label.item() if isinstance(label, Tensor | np.generic | np.ndarray) else label
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"its label is {value!r}, but must be an integer from 0")
    return value


def _image(image: Any) -> Tensor:
    """Return an image as (C, H, W), uint8 or float32."""
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        # NumPy's images have their channels last, torch's first.
        if image.ndim == 3 and image.shape[-1] in (1, 3):
            image = np.moveaxis(image, -1, 0)
        image = torch.from_numpy(np.ascontiguousarray(image))
    if not isinstance(image, Tensor):
        raise ValueError(f"its image is a {type(image).__name__}, but must be an image or a tensor")
    image = image[None] if image.dim() == 2 else image
    if image.dim() != 3:
        raise ValueError(f"its image has the shape {tuple(image.shape)}, but must be (C, H, W)")
    if len(image) not in (1, 3) and image.shape[-1] in (1, 3):
        raise ValueError(f"its image has the shape {tuple(image.shape)}: put the channels first")
    if image.is_floating_point():
        image = image.float()
        if not torch.isfinite(image).all():
            raise ValueError("its image has values that are not finite")
    elif image.dtype != torch.uint8:
        raise ValueError(f"its image is {image.dtype}, but must be uint8 (0 to 255) or float")
    # A plain tensor: torchvision's Image would follow other rules under some transforms.
    plain: Tensor = image.as_subclass(Tensor)
    return plain
