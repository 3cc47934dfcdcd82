"""Inputs with mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.tasks import Task

Standardisation = Literal["pixel", "channel"]
_ROWS_AT_A_TIME = 4096


@dataclass(frozen=True)
class Standardiser:
    """Subtracts a mean and divides by a standard deviation, both (C, H, W) or (C, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the standardised samples (N, C, H, W)."""
        return (x - self.mean.to(x.device)) / self.std.to(x.device)


def standardiser(source: Source, per: Standardisation | None) -> Standardiser | None:
    """Return a function that gives the samples of a data set mean 0 and standard deviation 1.

    Args:
        source: The data set; both statistics cover all its training samples, even those that no
            task uses, after their fixed transforms.
        per: Whether statistics are per value of a sample ("pixel") or per channel ("channel"); None
            returns None. Constant values or channels are not divided.
    """
    return None if per is None else Standardiser(*_statistics(source, per))


def standardised(
    tasks: Sequence[Task], source: Source, per: Standardisation | None
) -> Sequence[Task]:
    """Return tasks made from `source`, standardised by its `standardiser`."""
    change = standardiser(source, per)
    return tasks if change is None else [task.changed(change) for task in tasks]


def _statistics(source: Source, per: Standardisation) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training samples, scaled to [0, 1]."""
    over = [0] if per == "pixel" else [0, 2, 3]
    n, total, squares = 0, torch.zeros(()), torch.zeros(())
    for rows in torch.split(source.train_x, _ROWS_AT_A_TIME):
        x = source.train_images(rows.double())
        n += x.numel() // x.sum(over).numel()
        total = total + x.sum(over, keepdim=True)
        squares = squares + x.square().sum(over, keepdim=True)
    mean = total / n
    std = (squares / n - mean.square()).clamp(min=0).sqrt()
    constant = std < 1e-6
    return mean[0].float(), std.masked_fill(constant, 1.0)[0].float()
