"""Transforms of images: which are random, which are applied once, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.data.views import SampleTransforms, Transform, global_states, set_global_states

N_PROBED = 64
"""Number of training samples on which transforms are tried."""

_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Preparation:
    """What happens to floats (C, H, W) in [0, 1] before a model sees them.

    Attributes:
        train: Transforms that are applied to training samples once, before they are stored.
        test: Transforms that are applied to test samples once.
        drawn: Transforms that are applied whenever a training sample is drawn; the first is random.
        evaluated: Transforms that are applied when a stored training sample is evaluated.
        seed: Seed of the draws.
    """

    train: tuple[Transform, ...] = ()
    test: tuple[Transform, ...] = ()
    drawn: tuple[Transform, ...] = ()
    evaluated: tuple[Transform, ...] = ()
    seed: int = 0

    def fixed(self, x: Tensor, part: Literal["train", "test"]) -> Tensor:
        """Return samples (N, C, H, W) after the transforms that are applied once."""
        for transform in self.train if part == "train" else self.test:
            x = _applied(transform, x)
        return x

    def views(self, changes: Sequence[Transform]) -> tuple[SampleTransforms, SampleTransforms]:
        """Return the transforms of the training view and of the evaluation view.

        Args:
            changes: The last changes, of a whole batch.
        """
        return (
            SampleTransforms(self.drawn, self.seed, changes),
            SampleTransforms(self.evaluated, changes=changes),
        )


NOTHING = Preparation()


def transforms_of(
    train: Sequence[Transform] | None,
    test: Sequence[Transform] | None,
    images: Tensor,
    seed: int,
) -> Preparation:
    """Return which of the given transforms are applied once, and which at every draw.

    A transform is random if it draws from a global generator of torch, NumPy or Python, or gives
    different results for the same input. From the first random one on, training samples are
    transformed whenever they are drawn. Their evaluation view uses the test transforms.

    Args:
        train: Preparation of one training sample, in order.
        test: Preparation of one test sample; None for those of `train` that are not random.
        images: Some training samples to try them on, floats (N, C, H, W).
        seed: Seed of the random ones.

    Raises:
        ValueError: If a transform fails or does not return a float tensor, a test transform is
            random, or training and test samples have different shapes.
    """
    train = tuple(train or ())
    x, are_random = images, []
    for i, transform in enumerate(train):
        x, is_random = _tried(transform, x, f"train_transforms[{i}]")
        are_random.append(is_random)
    if test is None:
        test = [each for each, is_random in zip(train, are_random, strict=True) if not is_random]
        where = "train_transforms without its random ones, used for test images:"
    else:
        where = "test_transforms"
    test = tuple(test)
    evaluated = images
    for i, transform in enumerate(test):
        evaluated, is_random = _tried(transform, evaluated, f"{where}[{i}]")
        if is_random:
            raise ValueError(
                f"test_transforms[{i}] is random ({_name(transform)}): test images must stay the "
                "same, so use it in train_transforms only"
            )
    if x.shape != evaluated.shape:
        raise ValueError(
            f"training images have the shape {tuple(x.shape[1:])} after train_transforms, but test "
            f"images {tuple(evaluated.shape[1:])}: give test_transforms that make them alike"
        )
    if not any(are_random):
        return Preparation(train=train, test=test)
    first, shared = are_random.index(True), 0
    while shared < min(first, len(test)) and _equal(train[shared], test[shared]):
        shared += 1
    return Preparation(train[:shared], test, train[shared:], test[shared:], seed)


def _equal(one: Transform, other: Transform) -> bool:
    # A transform whose text hides its arguments shows an address, so it never compares equal.
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _name(transform: Transform) -> str:
    return getattr(transform, "__name__", type(transform).__name__)


def _tried(transform: Transform, x: Tensor, where: str) -> tuple[Tensor, bool]:
    """Return a transform's result on samples (N, C, H, W), and whether it is random."""
    before = global_states()
    first, second = (_by_sample(transform, x, where) for _ in range(2))
    after = global_states()
    drew = (
        not torch.equal(before[0], after[0])
        or not np.array_equal(before[1][1], after[1][1])
        or before[1][2] != after[1][2]
        or before[2] != after[2]
    )
    set_global_states(before)
    return first, drew or not torch.equal(first, second)


def _by_sample(transform: Transform, x: Tensor, where: str) -> Tensor:
    try:
        rows = [transform(sample.clone()) for sample in x]
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where} ({_name(transform)}) fails on an image: {reason}") from error
    for row in rows:
        if not isinstance(row, Tensor) or not row.is_floating_point() or row.dim() != x.dim() - 1:
            found = f"{row.dtype} {tuple(row.shape)}" if isinstance(row, Tensor) else type(row)
            raise ValueError(
                f"{where} ({_name(transform)}) must return a float tensor (C, H, W), but returns "
                f"{found}"
            )
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"{where} ({_name(transform)}) returns images of different sizes")
    return torch.stack(rows)


def _applied(transform: Transform, x: Tensor) -> Tensor:
    """Apply a transform to samples (N, C, H, W), to many at once if the result is the same."""
    few = x[:2]
    try:
        at_once = torch.equal(transform(few.clone()), torch.stack([transform(s) for s in few]))
    except Exception:  # Many transforms take one image only.
        at_once = False
    if at_once:
        return torch.cat([transform(rows) for rows in torch.split(x, _ROWS_AT_A_TIME)])
    return torch.stack([transform(sample) for sample in x])
