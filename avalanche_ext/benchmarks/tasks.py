"""Tasks cut from a data set: by class, by permutation of pixels, by rotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from avalanche_ext.benchmarks.sources import Source

Subset = Literal["first", "order", "seed"]
OrderSeed = NonNegativeInt | Literal["seed"] | None


@dataclass(frozen=True)
class Task:
    """Training and test samples of one experience, with labels of the whole data set.

    Samples are floats (N, C, H, W), in [0, 1] unless standardised; labels are int64 (N,).
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Sizes:
    """How many samples of a task are used, and which.

    Attributes:
        train: Number of training samples per task; the whole pool if None.
        test: Number of test samples per task; all if None.
        subset: Which training samples: the "first" in the order of the data set, or random ones,
            drawn for each task with the "order" seed or the run's "seed".
        pool: Number of training samples per task that `train` are chosen from, drawn once for all
            runs; all if None.
        test_subset: Which test samples, like `subset`.
    """

    train: int | None
    test: int | None
    subset: Subset
    pool: int | None = None
    test_subset: Subset = "first"


@dataclass(frozen=True)
class Seeds:
    """The seed of a run, and the seed of orders that all runs of an experiment may share.

    Attributes:
        run: Seed of the run.
        order: Seed of class orders, permutations and angles. "seed" takes the run's seed; None is
            the canonical order: classes ascending, angles in equal steps, permutations of seed 0.
    """

    run: int
    order: OrderSeed

    def order_generator(self) -> np.random.Generator:
        """Return a new generator of classes, permutations or angles."""
        return np.random.default_rng(self.run if self.order == "seed" else self.order or 0)

    def pool_generator(self) -> np.random.Generator:
        """Return a new generator of pools, which does not depend on the run's seed."""
        return np.random.default_rng([3, self.order if isinstance(self.order, int) else 0])

    def subset_generator(
        self, subset: Subset, part: Literal["train", "test"] = "train"
    ) -> np.random.Generator:
        """Return a new generator of subsets, independent of orders and of the other part.

        Args:
            subset: "seed" for the run's seed, else the seed of orders.
            part: The part whose samples are drawn.
        """
        stream = {"train": 1, "test": 2}[part]
        if subset == "seed" or self.order == "seed":
            return np.random.default_rng([stream, self.run])
        return np.random.default_rng([stream, self.order or 0])


def split_by_class(source: Source, n_experiences: int, sizes: Sizes, seeds: Seeds) -> list[Task]:
    """Return tasks of equally many classes each.

    Raises:
        ValueError: If `n_experiences` does not divide the number of classes, or a task has too few
            samples or none.
    """
    if source.n_classes % n_experiences:
        raise ValueError(
            f"n_experiences={n_experiences} does not divide the {source.n_classes} classes: "
            "each experience needs equally many"
        )
    order = np.arange(source.n_classes)
    if seeds.order is not None:
        order = seeds.order_generator().permutation(order)
    tasks = []
    for classes in np.split(order, n_experiences):
        wanted = torch.from_numpy(classes)
        train, test = torch.isin(source.train_y, wanted), torch.isin(source.test_y, wanted)
        tasks.append(
            Task(
                source.train_x[train],
                source.train_y[train],
                source.test_x[test],
                source.test_y[test],
            )
        )
    return _limited(tasks, source.white, sizes, seeds)


def permuted(
    source: Source, n_experiences: int, sizes: Sizes, seeds: Seeds, first_is_identity: bool
) -> list[Task]:
    """Return tasks of all classes, each with its own permutation of the pixels."""
    rng = seeds.order_generator()
    n_pixels = source.train_x[0].numel()
    permutations = [torch.from_numpy(rng.permutation(n_pixels)) for _ in range(n_experiences)]
    if first_is_identity:
        permutations[0] = torch.arange(n_pixels)

    def transform(order: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: x.flatten(1)[:, order].view_as(x)

    return _transformed(source, [transform(order) for order in permutations], sizes, seeds)


def rotated(
    source: Source,
    n_experiences: int,
    sizes: Sizes,
    seeds: Seeds,
    max_angle: float,
    interpolation: Literal["bilinear", "bicubic"],
) -> list[Task]:
    """Return tasks of all classes, rotated counter-clockwise by one angle per task, ascending.

    In canonical order the angles are equal steps from 0 to `max_angle` degrees. Otherwise the range
    is cut into `n_experiences` equal bins, and each angle is drawn uniformly from its own bin
    (Lopez-Paz and Ranzato 2017).
    """
    angles = np.linspace(0, max_angle, n_experiences)
    if seeds.order is not None:
        bins = np.arange(n_experiences) + seeds.order_generator().random(n_experiences)
        angles = bins * max_angle / n_experiences

    def transform(angle: float) -> Callable[[Tensor], Tensor]:
        return lambda x: rotate(x, angle, interpolation)

    return _transformed(source, [transform(angle) for angle in angles.tolist()], sizes, seeds)


def rotate(x: Tensor, degrees: float, interpolation: str) -> Tensor:
    """Rotate images (N, C, H, W) counter-clockwise about their centre, with black outside.

    Values are clamped to [0, 1], because bicubic interpolation overshoots.
    """
    angle = np.deg2rad(degrees)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    matrix = x.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(x), 2, 3)
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode=interpolation, align_corners=False).clamp_(0, 1)


def _transformed(
    source: Source, transforms: list[Callable[[Tensor], Tensor]], sizes: Sizes, seeds: Seeds
) -> list[Task]:
    """Transform the samples of each task, after limiting their number to save work."""
    whole = Task(source.train_x, source.train_y, source.test_x, source.test_y)
    return [
        Task(transform(task.train_x), task.train_y, transform(task.test_x), task.test_y)
        for task, transform in zip(
            _limited([whole] * len(transforms), source.white, sizes, seeds),
            transforms,
            strict=True,
        )
    ]


def _limited(tasks: list[Task], white: int, sizes: Sizes, seeds: Seeds) -> list[Task]:
    """Choose the samples of each task, and scale only these to floats in [0, 1]."""
    if sizes.train and sizes.pool and sizes.train > sizes.pool:
        raise ValueError(
            f"train_size={sizes.train} is more than pool_size={sizes.pool}: "
            "the training samples are chosen from the pool"
        )
    train_rng = seeds.subset_generator(sizes.subset)
    test_rng = seeds.subset_generator(sizes.test_subset, "test")
    limited = []
    for i, task in enumerate(tasks):
        for what, limit, held in (
            ("pool_size", sizes.pool, len(task.train_y)),
            ("train_size", sizes.train, len(task.train_y)),
            ("test_size", sizes.test, len(task.test_y)),
        ):
            if limit is not None and limit > held:
                raise ValueError(f"{what}={limit}, but experience {i} has {held} samples")
        _check_parts(task, i)
        train = _rows(sizes.pool or len(task.train_y), sizes.train, sizes.subset, train_rng)
        if sizes.pool:
            # A new generator for each task, so that tasks of the same images have the same pool.
            train = _rows(len(task.train_y), sizes.pool, "order", seeds.pool_generator())[train]
        test = _rows(len(task.test_y), sizes.test, sizes.test_subset, test_rng)
        limited.append(
            Task(
                task.train_x[train] / white,
                task.train_y[train],
                task.test_x[test] / white,
                task.test_y[test],
            )
        )
    return limited


def _check_parts(task: Task, index: int) -> None:
    """Raise ValueError unless the experience has training and test samples."""
    for part, labels, size in (
        ("training", task.train_y, "large"),
        ("test", task.test_y, "small"),
    ):
        if not len(labels):
            raise ValueError(
                f"experience {index} has no {part} sample: validation_size is too {size}, or the "
                "data set has no sample of its classes"
            )


def _rows(held: int, n: int | None, subset: Subset, rng: np.random.Generator) -> Tensor:
    """Return the indices of `n` of `held` samples, all if None, ascending, (n,)."""
    n = held if n is None else n
    if subset == "first":
        return torch.arange(n)
    return torch.from_numpy(np.sort(rng.choice(held, n, replace=False)))
