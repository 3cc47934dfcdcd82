"""Benchmarks by their names in experiment files.

Shared arguments:

- `dataset`: a name ("digits", "mnist", "fmnist", "cifar10", "cifar100", "image_folder"), a class or
  function that creates a data set of (image, label) pairs, or a pair of a training and a test data
  set. Images may be Pillow's, arrays (H, W, C) or tensors (C, H, W); uint8, or floats.
- `args`, `train`, `test`: arguments of the data set's constructor, for both parts or for one. If
  the constructor has parameters of these names, they are filled in unless they are given: `root`,
  `dataset_root`, `data_root` (the folder of the data), `seed` (the run's), and `train` (true,
  false) or `split` ("train", "test"). Relative paths start in the current folder.
- `n_experiences`: number of experiences.
- `train_size`, `test_size`: number of samples of each experience; all by default.
- `subset`: which training samples: the "first", or random ones, drawn for each experience with the
  "order" seed or the run's "seed". A MissingClassesWarning says if the first ones lack classes.
- `test_subset`: which test samples, like `subset`.
- `pool_size`: number of training samples of each experience that `subset` chooses from; all by
  default. The pool is drawn once for all runs, and is the same for experiences of the same images.
- `skip`: number of training samples to skip at the start of the whole data set.
- `validation_size`: number of training samples that are held out of training and replace the test
  samples, for choosing hyper-parameters. They are drawn at random from the whole data set (without
  skipped samples), the same in all runs.
- `image_size`, `channels`: height and width that images are resized to, and 1 (grey) or 3 (colour);
  by default those of the data set.
- `train_transforms`, `test_transforms`: transforms of single images, floats (C, H, W) in [0, 1].
  Random transforms are drawn each time a sample is drawn, before it is permuted or rotated, and
  have their own generators; all others are applied once. Without `test_transforms`, test images get
  the training transforms that are not random.
- `standardise`: "pixel" gives each value of a sample, "channel" each channel mean 0 and standard
  deviation 1 over all training samples of the data set, before they are permuted. Rotated images
  allow only "channel", because their pixels no longer have the data set's statistics.
- `online`: number of samples of the mini-experiences that each training experience is cut into, in
  random order, as Avalanche's `split_online_stream` does.
- `order_seed`: seed of class orders, permutations and angles. None is the canonical order (classes
  ascending, angles in equal steps, permutations of seed 0); "seed" takes the run's seed.
- `seed`: seed of the run.
- `data_root`: folder of the data; by default $AVALANCHE_EXT_DATA, or else Avalanche's default (for
  `image_folder`, the current folder).

All return an Avalanche benchmark in memory, whose labels do not depend on which classes the chosen
samples have. They raise DataNotFoundError if the data are missing, and ValueError if an argument is
out of range or the data do not fit or have too few samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from avalanche.benchmarks import CLScenario
from pydantic import PositiveFloat, PositiveInt

from avalanche_ext.benchmarks.argument_types import (
    ArgumentsOfDataset,
    DatasetName,
    DatasetNames,
    Transforms,
)
from avalanche_ext.benchmarks.build import Scenario, build_benchmark, online_benchmark
from avalanche_ext.benchmarks.domains import domain_tasks
from avalanche_ext.benchmarks.pairs import Request, open_source
from avalanche_ext.benchmarks.sources import Source, held_out, skipped, with_transforms
from avalanche_ext.benchmarks.standardise import Standardisation, standardised, standardiser
from avalanche_ext.benchmarks.tasks import OrderSeed, Seeds, Sizes, Subset, split_by_class
from avalanche_ext.benchmarks.tasks import permuted as permuted_tasks
from avalanche_ext.benchmarks.tasks import rotated as rotated_tasks
from avalanche_ext.data.views import Transform
from avalanche_ext.validation import validated

Channels = Literal[1, 3]
_TRANSFORM_STREAM, _ONLINE_STREAM = 4, 5


@validated
def split(
    dataset: DatasetName,
    args: ArgumentsOfDataset = None,
    train: ArgumentsOfDataset = None,
    test: ArgumentsOfDataset = None,
    n_experiences: PositiveInt = 5,
    train_size: PositiveInt | None = None,
    test_size: PositiveInt | None = None,
    subset: Subset = "first",
    order_seed: OrderSeed = None,
    scenario: Scenario = "class",
    augment: bool = False,
    *,
    pool_size: PositiveInt | None = None,
    test_subset: Subset = "first",
    validation_size: PositiveInt | None = None,
    standardise: Standardisation | None = None,
    skip: PositiveInt | None = None,
    image_size: PositiveInt | None = None,
    channels: Channels | None = None,
    train_transforms: Transforms = None,
    test_transforms: Transforms = None,
    online: PositiveInt | None = None,
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """Equal numbers of classes per experience, in ascending order unless `order_seed` is set."""
    request = Request(dataset, args or {}, train or {}, test or {}, image_size, channels)
    source = _source(
        request, data_root, seed, skip, validation_size, train_transforms, test_transforms
    )
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    if augment and (train_transforms or test_transforms):
        raise ValueError("augment: list the crop and the flip in train_transforms instead")
    tasks = standardised(
        split_by_class(source, n_experiences, sizes, Seeds(seed, order_seed)), source, standardise
    )
    benchmark = build_benchmark(tasks, scenario, _augmentation(source) if augment else None)
    return online_benchmark(benchmark, online, _derived(seed, _ONLINE_STREAM))


@validated
def permuted(
    dataset: DatasetName,
    args: ArgumentsOfDataset = None,
    train: ArgumentsOfDataset = None,
    test: ArgumentsOfDataset = None,
    n_experiences: PositiveInt = 10,
    train_size: PositiveInt | None = None,
    test_size: PositiveInt | None = None,
    subset: Subset = "first",
    order_seed: OrderSeed = None,
    scenario: Literal["domain", "task"] = "domain",
    first_is_identity: bool = False,
    *,
    pool_size: PositiveInt | None = None,
    test_subset: Subset = "first",
    validation_size: PositiveInt | None = None,
    standardise: Standardisation | None = None,
    skip: PositiveInt | None = None,
    image_size: PositiveInt | None = None,
    channels: Channels | None = None,
    train_transforms: Transforms = None,
    test_transforms: Transforms = None,
    online: PositiveInt | None = None,
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """All classes in each experience, with one pixel permutation per experience."""
    request = Request(dataset, args or {}, train or {}, test or {}, image_size, channels)
    source = _source(
        request, data_root, seed, skip, validation_size, train_transforms, test_transforms
    )
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    seeds, before = Seeds(seed, order_seed), standardiser(source, standardise)
    tasks = permuted_tasks(source, n_experiences, sizes, seeds, first_is_identity, before)
    benchmark = build_benchmark(tasks, scenario)
    return online_benchmark(benchmark, online, _derived(seed, _ONLINE_STREAM))


@validated
def rotated(
    dataset: DatasetName,
    args: ArgumentsOfDataset = None,
    train: ArgumentsOfDataset = None,
    test: ArgumentsOfDataset = None,
    n_experiences: PositiveInt = 10,
    train_size: PositiveInt | None = None,
    test_size: PositiveInt | None = None,
    subset: Subset = "first",
    order_seed: OrderSeed = None,
    scenario: Literal["domain", "task"] = "domain",
    max_angle: PositiveFloat = 180.0,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    *,
    pool_size: PositiveInt | None = None,
    test_subset: Subset = "first",
    validation_size: PositiveInt | None = None,
    standardise: Literal["channel"] | None = None,
    skip: PositiveInt | None = None,
    image_size: PositiveInt | None = None,
    channels: Channels | None = None,
    train_transforms: Transforms = None,
    test_transforms: Transforms = None,
    online: PositiveInt | None = None,
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """All classes in each experience, rotated by ascending angles from 0 to `max_angle` degrees."""
    request = Request(dataset, args or {}, train or {}, test or {}, image_size, channels)
    source = _source(
        request, data_root, seed, skip, validation_size, train_transforms, test_transforms
    )
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    seeds, after = Seeds(seed, order_seed), standardiser(source, standardise)
    tasks = rotated_tasks(source, n_experiences, sizes, seeds, max_angle, interpolation, after)
    benchmark = build_benchmark(tasks, scenario)
    return online_benchmark(benchmark, online, _derived(seed, _ONLINE_STREAM))


@validated
def domains(
    datasets: DatasetNames,
    train_size: PositiveInt | None = None,
    test_size: PositiveInt | None = None,
    subset: Subset = "first",
    order_seed: OrderSeed = None,
    scenario: Scenario = "domain",
    *,
    pool_size: PositiveInt | None = None,
    test_subset: Subset = "first",
    validation_size: PositiveInt | None = None,
    standardise: Standardisation | None = None,
    skip: PositiveInt | None = None,
    image_size: PositiveInt | None = None,
    channels: Channels | None = None,
    train_transforms: Transforms = None,
    test_transforms: Transforms = None,
    online: PositiveInt | None = None,
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """One experience per data set, in the given order unless `order_seed` is set.

    Without `image_size`, all images must have the same size. Without `channels`, greyscale images
    become colour images if any data set has colour. The scenario "domain" needs the same number of
    classes in each data set; "class" gives each data set its own classes. `standardise` uses the
    statistics of each data set.
    """
    requests = [_request(each, image_size, channels) for each in datasets]
    sources = [
        _source(request, data_root, seed, skip, validation_size, None, None) for request in requests
    ]
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    names = [request.name for request in requests]
    tasks = domain_tasks(
        sources,
        names,
        sizes,
        Seeds(seed, order_seed),
        scenario,
        standardise,
        lambda source: with_transforms(
            source, train_transforms, test_transforms, _derived(seed, _TRANSFORM_STREAM)
        ),
    )
    benchmark = build_benchmark(tasks, scenario)
    return online_benchmark(benchmark, online, _derived(seed, _ONLINE_STREAM))


@validated
def image_folder(
    folder: str,
    image_size: PositiveInt = 32,
    n_experiences: PositiveInt = 5,
    train_size: PositiveInt | None = None,
    test_size: PositiveInt | None = None,
    subset: Subset = "first",
    order_seed: OrderSeed = None,
    scenario: Scenario = "class",
    augment: bool = False,
    *,
    pool_size: PositiveInt | None = None,
    test_subset: Subset = "first",
    validation_size: PositiveInt | None = None,
    standardise: Standardisation | None = None,
    skip: PositiveInt | None = None,
    channels: Channels | None = 3,
    train_transforms: Transforms = None,
    test_transforms: Transforms = None,
    online: PositiveInt | None = None,
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """Images in FOLDER/{train,test}/CLASS, split by class; FOLDER is relative to the data root."""
    return split(
        "image_folder",
        {"folder": folder, "image_size": image_size, "channels": channels},
        n_experiences=n_experiences,
        train_size=train_size,
        test_size=test_size,
        subset=subset,
        order_seed=order_seed,
        scenario=scenario,
        augment=augment,
        pool_size=pool_size,
        test_subset=test_subset,
        validation_size=validation_size,
        standardise=standardise,
        skip=skip,
        train_transforms=train_transforms,
        test_transforms=test_transforms,
        online=online,
        seed=seed,
        data_root=data_root,
    )


# The data set, without arguments for its constructor.
split_digits = partial(split, "digits", None, None, None)
split_mnist = partial(split, "mnist", None, None, None)
split_fmnist = partial(split, "fmnist", None, None, None)
split_cifar10 = partial(split, "cifar10", None, None, None)
split_cifar100 = partial(split, "cifar100", None, None, None)
permuted_digits = partial(permuted, "digits", None, None, None)
permuted_mnist = partial(permuted, "mnist", None, None, None)
rotated_digits = partial(rotated, "digits", None, None, None)
rotated_mnist = partial(rotated, "mnist", None, None, None)

for _benchmark in (split_digits, split_mnist, split_fmnist, split_cifar10, split_cifar100):
    _benchmark.__doc__ = split.__doc__
for _benchmark in (permuted_digits, permuted_mnist):
    _benchmark.__doc__ = permuted.__doc__
for _benchmark in (rotated_digits, rotated_mnist):
    _benchmark.__doc__ = rotated.__doc__


def _source(
    request: Request,
    data_root: Path | None,
    seed: int,
    skip: int | None,
    validation_size: int | None,
    train_transforms: Transforms,
    test_transforms: Transforms,
) -> Source:
    source = held_out(skipped(open_source(request, data_root, seed), skip), validation_size)
    return with_transforms(
        source, train_transforms, test_transforms, _derived(seed, _TRANSFORM_STREAM)
    )


def _request(each: Any, image_size: int | None, channels: int | None) -> Request:
    """Return the request for one of several data sets, given as a name or a mapping."""
    if not isinstance(each, Mapping):
        return Request(each, {}, {}, {}, image_size, channels)
    known = ("name", "args", "train", "test")
    unknown = [key for key in each if key not in known]
    if unknown or "name" not in each:
        found = f"the unknown key '{unknown[0]}'" if unknown else "no name"
        raise ValueError(f"datasets: an entry has {found}; its keys are {', '.join(known)}")
    args, train, test = (each.get(key) or {} for key in known[1:])
    return Request(each["name"], args, train, test, image_size, channels)


def _derived(seed: int, stream: int) -> int:
    """Return a seed for one purpose, independent of those of other purposes."""
    return int(np.random.default_rng([stream, seed]).integers(2**31))


def _augmentation(source: Source) -> Transform:
    """Return a random crop, padded by an eighth of the size, and a random horizontal flip."""
    from torchvision.transforms import v2

    size = source.train_x.shape[-1]
    crop_and_flip: Transform = v2.Compose(
        [v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()]
    )
    return crop_and_flip
