"""Benchmarks by their names in experiment files.

Arguments that they share:

- `n_experiences`: number of experiences.
- `train_size`, `test_size`: number of samples of each experience; all by default.
- `subset`: which training samples: the "first", or random ones, drawn for each experience with the
  "order" seed or the run's "seed".
- `test_subset`: which test samples, like `subset`.
- `pool_size`: number of training samples of each experience that `subset` chooses from; all by
  default. The pool is drawn once for all runs, and is the same for experiences of the same images.
- `validation_size`: number of training samples that are held out of training and replace the test
  samples, for choosing hyper-parameters. They are drawn at random from the whole data set, the same
  in all runs.
- `standardise` (splits by class only): "pixel" gives each value of a sample, "channel" each channel
  mean 0 and standard deviation 1 over all training samples of the data set.
- `order_seed`: seed of class orders, permutations and angles. None is the canonical order (classes
  ascending, angles in equal steps, permutations of seed 0); "seed" takes the run's seed.
- `seed`: seed of the run.
- `data_root`: folder of the data; by default $AVALANCHE_EXT_DATA, or else Avalanche's default (for
  `image_folder`, the current folder).

All return an Avalanche benchmark in memory. They raise DataNotFoundError, and ValueError if an
argument is out of range or the data have too few samples.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from avalanche.benchmarks import CLScenario
from pydantic import PositiveFloat, PositiveInt

from avalanche_ext.benchmarks.build import Scenario, build_benchmark
from avalanche_ext.benchmarks.sources import Source, given_data_root, held_out, image_tree, load
from avalanche_ext.benchmarks.standardise import Standardisation, standardised
from avalanche_ext.benchmarks.tasks import (
    OrderSeed,
    Seeds,
    Sizes,
    Subset,
    permuted,
    rotated,
    split_by_class,
)
from avalanche_ext.data.dataset import Transform
from avalanche_ext.validation import validated


@validated
def class_split(
    dataset: Literal["digits", "mnist", "fmnist", "cifar10", "cifar100"],
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
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """Equally many classes in each experience; classes ascend unless `order_seed` is set."""
    source = held_out(load(dataset, data_root), validation_size)
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    tasks = standardised(
        split_by_class(source, n_experiences, sizes, Seeds(seed, order_seed)), source, standardise
    )
    return build_benchmark(tasks, scenario, _augmentation(source) if augment else None)


@validated
def permuted_pixels(
    dataset: Literal["digits", "mnist"],
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
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """All classes in each experience, with one pixel permutation per experience."""
    source = held_out(load(dataset, data_root), validation_size)
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    tasks = permuted(source, n_experiences, sizes, Seeds(seed, order_seed), first_is_identity)
    return build_benchmark(tasks, scenario)


@validated
def rotated_images(
    dataset: Literal["digits", "mnist"],
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
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """All classes in each experience, rotated by ascending angles from 0 to `max_angle` degrees."""
    source = held_out(load(dataset, data_root), validation_size)
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    tasks = rotated(source, n_experiences, sizes, Seeds(seed, order_seed), max_angle, interpolation)
    return build_benchmark(tasks, scenario)


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
    seed: int = 0,
    data_root: Path | None = None,
) -> CLScenario:
    """Images in FOLDER/{train,test}/CLASS, split by class; FOLDER is relative to the data root."""
    root = given_data_root(data_root) or Path()
    images = image_tree((root / Path(folder).expanduser()).resolve(), image_size)
    source = held_out(images, validation_size)
    sizes = Sizes(train_size, test_size, subset, pool_size, test_subset)
    tasks = standardised(
        split_by_class(source, n_experiences, sizes, Seeds(seed, order_seed)), source, standardise
    )
    return build_benchmark(tasks, scenario, _augmentation(source) if augment else None)


split_digits = partial(class_split, "digits")
split_mnist = partial(class_split, "mnist")
split_fmnist = partial(class_split, "fmnist")
split_cifar10 = partial(class_split, "cifar10")
split_cifar100 = partial(class_split, "cifar100")
permuted_digits = partial(permuted_pixels, "digits")
permuted_mnist = partial(permuted_pixels, "mnist")
rotated_digits = partial(rotated_images, "digits")
rotated_mnist = partial(rotated_images, "mnist")

for _benchmark in (split_digits, split_mnist, split_fmnist, split_cifar10, split_cifar100):
    _benchmark.__doc__ = class_split.__doc__
for _benchmark in (permuted_digits, permuted_mnist):
    _benchmark.__doc__ = permuted_pixels.__doc__
for _benchmark in (rotated_digits, rotated_mnist):
    _benchmark.__doc__ = rotated_images.__doc__


def _augmentation(source: Source) -> Transform:
    """Return a random crop, padded by an eighth of the size, and a random horizontal flip."""
    from torchvision.transforms import v2

    size = source.train_x.shape[-1]
    crop_and_flip: Transform = v2.Compose(
        [v2.RandomCrop(size, padding=size // 8), v2.RandomHorizontalFlip()]
    )
    return crop_and_flip
