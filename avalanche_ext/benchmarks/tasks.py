"""Tasks cut from a data set: by class, by permutation of pixels, by rotation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.transforms import NOTHING, Preparation
from avalanche_ext.data.samples import Change, Shared, SharedRows

_MOST_NAMED = 5
"""How many missing classes a warning lists."""


class MissingClassesWarning(UserWarning):
    """The first samples of an experience, which it uses, lack classes that its data have."""


Subset = Literal["first", "order", "seed"]
OrderSeed = NonNegativeInt | Literal["seed"] | None


@dataclass(frozen=True)
class Task:
    """Training and test samples of one experience, with labels of the whole data set.

    Samples are floats (N, C, H, W), in [0, 1] unless standardised, or rows of a tensor that several
    tasks share, converted to such floats when they are read. Labels are int64 (N,).

    Attributes:
        transforms: Preparation of training samples, each time they are drawn.
        changes: Changes of a batch of training samples after these transforms, such as a
            permutation; without such transforms they have already been applied.
        train_rows: Index of each training sample in the data set, (N,), if tasks may share samples;
            None if no two tasks share one.
        classes: Classes of the task, (n,), even those that no sample has; None if they are those of
            the samples.
    """

    train_x: Tensor | SharedRows
    train_y: Tensor
    test_x: Tensor | SharedRows
    test_y: Tensor
    transforms: Preparation = NOTHING
    changes: tuple[Change, ...] = ()
    train_rows: Tensor | None = None
    classes: Tensor | None = None

    def changed(self, change: Change) -> Task:
        """Return the task with a change applied to all samples that the model sees."""
        test_x = _changed(self.test_x, change)
        if self.transforms.drawn:
            return replace(self, test_x=test_x, changes=(*self.changes, change))
        return replace(self, train_x=_changed(self.train_x, change), test_x=test_x)


def _changed(x: Tensor | SharedRows, change: Change) -> Tensor | SharedRows:
    if isinstance(x, SharedRows):
        return x.changed(change, slow=isinstance(change, Rotation))
    return change(x)


@dataclass(frozen=True)
class Scale:
    """Converts samples from 0 to `white` to floats in [0, 1]."""

    white: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return the samples as floats."""
        return x / self.white


@dataclass(frozen=True)
class Permutation:
    """Reorders the values of each sample by an order, (C·H·W,)."""

    order: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the permuted samples (N, C, H, W)."""
        # Fifteen times as fast as `x.flatten(1)[:, order]`; 32-bit indices are faster still.
        return x.flatten(1).index_select(1, self.order.to(x.device)).view_as(x)


@dataclass(frozen=True)
class Rotation:
    """Turns images counter-clockwise by an angle in degrees."""

    degrees: float
    interpolation: str

    def __call__(self, x: Tensor) -> Tensor:
        """Return the rotated images (N, C, H, W)."""
        return rotate(x, self.degrees, self.interpolation)


@dataclass(frozen=True)
class Sizes:
    """How many samples of a task are used, and which.

    Attributes:
        train: Number of training samples per task; the whole pool if None.
        test: Number of test samples per task; all if None.
        subset: Which training samples: the "first" in the order of the data set, or random ones,
            drawn for each task with the "order" seed or the run's "seed".
        pool: Number of training samples per task from which the `train` samples are chosen, drawn
            once for all runs; all if None.
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

    def order_seed(self) -> int:
        """Return the seed of classes, permutations or angles; 0 for the canonical order."""
        return self.run if self.order == "seed" else self.order or 0

    def order_generator(self) -> np.random.Generator:
        """Return a new generator for classes, permutations or angles."""
        return np.random.default_rng(self.order_seed())

    def pool_generator(self) -> np.random.Generator:
        """Return a new generator for pools, which does not depend on the run's seed."""
        return np.random.default_rng([3, self.order if isinstance(self.order, int) else 0])

    def subset_generator(
        self, subset: Subset, part: Literal["train", "test"] = "train"
    ) -> np.random.Generator:
        """Return a new generator for subsets, independent of orders and of the other part.

        Args:
            subset: "seed" for the run's seed, else the seed of orders.
            part: The part whose samples are drawn.
        """
        stream = {"train": 1, "test": 2}[part]
        if subset == "seed" or self.order == "seed":
            return np.random.default_rng([stream, self.run])
        return np.random.default_rng([stream, self.order or 0])


def split_by_class(source: Source, n_experiences: int, sizes: Sizes, seeds: Seeds) -> list[Task]:
    """Return tasks with the same number of classes each.

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
    classes = [torch.from_numpy(np.sort(own)) for own in np.split(order, n_experiences)]
    parts = []
    for wanted in classes:
        held = (torch.isin(y, wanted).nonzero()[:, 0] for y in (source.train_y, source.test_y))
        parts.append((*held,))
    labels = [(source.train_y[train], source.test_y[test]) for train, test in parts]
    chosen = _chosen(labels, sizes, seeds)
    return _cut(
        source,
        [train[rows] for (train, _), (rows, _) in zip(parts, chosen, strict=True)],
        [test[rows] for (_, test), (_, rows) in zip(parts, chosen, strict=True)],
        classes,
    )


def permuted(
    source: Source,
    n_experiences: int,
    sizes: Sizes,
    seeds: Seeds,
    first_is_identity: bool,
    before: Change | None = None,
) -> list[Task]:
    """Return tasks of all classes, each with its own permutation of the pixels.

    Args:
        source: The data set.
        n_experiences: Number of tasks.
        sizes: How many samples of each task, and which.
        seeds: Seeds of the permutations and of the samples.
        first_is_identity: Whether the first task is not permuted.
        before: A change of the samples before the permutation.
    """
    rng = seeds.order_generator()
    n_pixels = source.test_images(source.test_x[:1]).numel()
    permutations = [torch.from_numpy(rng.permutation(n_pixels)) for _ in range(n_experiences)]
    if first_is_identity:
        permutations[0] = torch.arange(n_pixels)
    changes = [Permutation(order.int()) for order in permutations]
    return _sharing(source, [[before, change] for change in changes], sizes, seeds)


def rotated(
    source: Source,
    n_experiences: int,
    sizes: Sizes,
    seeds: Seeds,
    max_angle: float,
    interpolation: Literal["bilinear", "bicubic"],
    after: Change | None = None,
) -> list[Task]:
    """Return tasks of all classes, rotated counter-clockwise by one angle per task, ascending.

    In canonical order the angles are equal steps from 0 to `max_angle` degrees. Otherwise the range
    is cut into `n_experiences` equal bins, and each angle is drawn uniformly from its own bin
    (Lopez-Paz and Ranzato 2017). `after` is applied to the rotated samples.

    Raises:
        ValueError: If samples are not in [0, 1], or a task has too few samples.
    """
    angles = np.linspace(0, max_angle, n_experiences)
    if seeds.order is not None:
        bins = np.arange(n_experiences) + seeds.order_generator().random(n_experiences)
        angles = bins * max_angle / n_experiences
    changes = [Rotation(angle, interpolation) for angle in angles.tolist()]
    return _sharing(source, [[change, after] for change in changes], sizes, seeds)


def rotate(x: Tensor, degrees: float, interpolation: str) -> Tensor:
    """Rotate images (N, C, H, W) counter-clockwise about their centre, with black outside.

    Values are clamped to [0, 1], because bicubic interpolation overshoots.
    """
    if not len(x):
        return x
    angle = np.deg2rad(degrees)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    matrix = x.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(x), 2, 3)
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    return grid_sample(x, grid, mode=interpolation, align_corners=False).clamp_(0, 1)


def _sharing(
    source: Source, changes: Sequence[Sequence[Change | None]], sizes: Sizes, seeds: Seeds
) -> list[Task]:
    """Return tasks that share the samples of one data set, each with its own changes.

    They share the data set's own values, unless it has transforms that are applied once.
    """
    parts = _chosen([(source.train_y, source.test_y)] * len(changes), sizes, seeds)
    train_x = _shared(source.train_x, [train for train, _ in parts], source, "train")
    test_x = _shared(source.test_x, [test for _, test in parts], source, "test")
    tasks = []
    for (train, test), x, held_out, those in zip(parts, train_x, test_x, changes, strict=True):
        task = Task(
            x,
            source.train_y[train],
            held_out,
            source.test_y[test],
            source.transforms,
            train_rows=train,
            classes=torch.arange(source.n_classes),
        )
        for change in those:
            if isinstance(change, Rotation):
                _check_range(held_out.read())
            task = task if change is None else task.changed(change)
        tasks.append(task)
    return tasks


def _shared(
    x: Tensor, rows: Sequence[Tensor], source: Source, part: Literal["train", "test"]
) -> list[SharedRows]:
    """Return the samples of each task, as rows of one tensor that holds exactly these samples.

    Args:
        x: Training or test samples of the data set, (N, C, H, W).
        rows: The rows of each task, ascending.
        source: The data set.
        part: The part that `x` is from.
    """
    held = torch.unique(torch.cat([*rows]))
    if len(held) < len(x):
        x = x[held]
    scale = Scale(source.white)
    if source.transforms.train if part == "train" else source.transforms.test:
        x, white = source.transforms.fixed(scale(x), part), 1
        scale = Scale(white)
    shared = Shared(x)
    return [
        SharedRows(
            shared, None if len(own) == len(held) else torch.searchsorted(held, own), [scale]
        )
        for own in rows
    ]


def _check_range(x: Tensor) -> None:
    if x.min() < 0 or x.max() > 1:
        raise ValueError(
            f"images to rotate must have values from 0 to 1, but have {float(x.min()):g} to "
            f"{float(x.max()):g}: use standardise, which comes after the rotation"
        )


def limited(sources: Sequence[Source], sizes: Sizes, seeds: Seeds) -> list[Task]:
    """Return one task of each data set, with some of its samples.

    Args:
        sources: The data sets.
        sizes: How many samples are chosen, and which.
        seeds: Seeds of the draws.

    Raises:
        ValueError: If a task has too few samples or none.
    """
    chosen = _chosen([(source.train_y, source.test_y) for source in sources], sizes, seeds)
    pairs = zip(sources, chosen, strict=True)
    return [
        task
        for source, (train, test) in pairs
        for task in _cut(source, [train], [test], [torch.arange(source.n_classes)])
    ]


def _cut(
    source: Source, train: Sequence[Tensor], test: Sequence[Tensor], classes: Sequence[Tensor]
) -> list[Task]:
    """Return tasks of these classes, training and test rows of a data set, ascending in each."""
    train_x, test_x = _scaled(source, "train", train), _scaled(source, "test", test)
    return [
        Task(
            train_x[i],
            source.train_y[train[i]],
            test_x[i],
            source.test_y[test[i]],
            source.transforms,
            classes=own,
        )
        for i, own in enumerate(classes)
    ]


def _scaled(
    source: Source, part: Literal["train", "test"], rows: Sequence[Tensor]
) -> Sequence[Tensor | SharedRows]:
    """Return the samples of each task as floats, or as rows of a shared tensor of bytes."""
    x, fixed, images = (
        (source.train_x, source.transforms.train, source.train_images)
        if part == "train"
        else (source.test_x, source.transforms.test, source.test_images)
    )
    if fixed or x.dtype != torch.uint8:
        return [images(x[own]) for own in rows]
    return _shared(x, rows, source, part)


def _chosen(
    labels: Sequence[tuple[Tensor, Tensor]], sizes: Sizes, seeds: Seeds
) -> list[tuple[Tensor, Tensor]]:
    """Return the rows of each task's training and test samples that are used, ascending.

    A MissingClassesWarning says if the first samples of a task lack some of its classes.

    Args:
        labels: Classes of the training and test samples that each task can choose from.
        sizes: How many samples are chosen, and which.
        seeds: Seeds of the draws.

    Raises:
        ValueError: If a task has too few samples or none.
    """
    if sizes.train and sizes.pool and sizes.train > sizes.pool:
        raise ValueError(
            f"train_size={sizes.train} is more than pool_size={sizes.pool}: "
            "the training samples are chosen from the pool"
        )
    train_rng = seeds.subset_generator(sizes.subset)
    test_rng = seeds.subset_generator(sizes.test_subset, "test")
    chosen = []
    used: dict[Literal["train", "test"], list[tuple[Tensor, int]]] = {"train": [], "test": []}
    for i, (train_y, test_y) in enumerate(labels):
        n_train, n_test = len(train_y), len(test_y)
        for what, limit, held in (
            ("pool_size", sizes.pool, n_train),
            ("train_size", sizes.train, n_train),
            ("test_size", sizes.test, n_test),
        ):
            if limit is not None and limit > held:
                raise ValueError(f"{what}={limit}, but experience {i} has {held} samples")
        _check_not_empty(n_train, n_test, i)
        train = _rows(sizes.pool or n_train, sizes.train, sizes.subset, train_rng)
        if sizes.pool:
            # A new generator for each task, so that tasks of the same images have the same pool.
            pool = _rows(n_train, sizes.pool, "order", seeds.pool_generator())
            train, train_y = pool[train], train_y[pool]
        test = _rows(n_test, sizes.test, sizes.test_subset, test_rng)
        chosen.append((train, test))
        used["train"].append((train_y, len(train)))
        used["test"].append((test_y, len(test)))
    if sizes.subset == "first":
        _warn_of_missing("train", used["train"])
    if sizes.test_subset == "first":
        _warn_of_missing("test", used["test"])
    return chosen


def _warn_of_missing(part: Literal["train", "test"], used: Sequence[tuple[Tensor, int]]) -> None:
    """Warn once if the first samples of an experience lack classes that its data have.

    Args:
        part: The part that the samples are from.
        used: For each experience, the classes of all its samples, and how many are used.
    """
    found = []
    for i, (y, n) in enumerate(used):
        if n < len(y):
            held, classes = torch.unique(y[:n]), torch.unique(y)
            if len(held) < len(classes):
                found.append((i, n, len(classes), classes[~torch.isin(classes, held)].tolist()))
    if not found:
        return
    i, n, n_classes, missing = found[0]
    named = ", ".join(map(str, missing[:_MOST_NAMED])) + (", …" * (len(missing) > _MOST_NAMED))
    others = len(found) - 1
    more = ""
    if others:
        more = f", and {others} other experience{'s lack' if others > 1 else ' lacks'} classes too"
    key, what = ("subset", "training") if part == "train" else ("test_subset", "test")
    warnings.warn(
        f"{key} is first, and the first {n} {what} samples ({part}_size) of experience {i} hold "
        f"only {n_classes - len(missing)} of its {n_classes} classes (without "
        f"class{'es' * (len(missing) > 1)} {named}){more}: use {key}: seed",
        MissingClassesWarning,
        stacklevel=2,
    )


def _check_not_empty(n_train: int, n_test: int, index: int) -> None:
    """Raise ValueError unless the experience has training and test samples."""
    for what, n, size in (("training", n_train, "large"), ("test", n_test, "small")):
        if not n:
            raise ValueError(
                f"experience {index} has no {what} sample: validation_size is too {size}, or the "
                "data set has no sample of its classes"
            )


def _rows(held: int, n: int | None, subset: Subset, rng: np.random.Generator) -> Tensor:
    """Return the ascending indices of `n` of `held` samples, (n,); all if n is None."""
    n = held if n is None else n
    if subset == "first":
        return torch.arange(n)
    return torch.from_numpy(np.sort(rng.choice(held, n, replace=False)))
