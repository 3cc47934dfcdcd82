"""Tasks whose inputs have mean 0 and standard deviation 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.tasks import Task

Standardisation = Literal["pixel", "channel"]
_ROWS_AT_A_TIME = 4096


def standardised(
    tasks: Sequence[Task], source: Source, per: Standardisation | None
) -> Sequence[Task]:
    """Return the tasks with samples minus their mean, divided by their standard deviation.

    Args:
        tasks: Tasks made from `source`.
        source: The data set; both statistics are over all its training samples, even those that no
            task uses.
        per: Whether statistics are per value of a sample ("pixel") or per channel ("channel"); None
            leaves the tasks as they are. Constant values or channels are not divided.
    """
    if per is None:
        return tasks
    mean, std = _statistics(source, per)
    return [
        replace(task, train_x=(task.train_x - mean) / std, test_x=(task.test_x - mean) / std)
        for task in tasks
    ]


def _statistics(source: Source, per: Standardisation) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training samples, scaled to [0, 1]."""
    over = [0] if per == "pixel" else [0, 2, 3]
    n, total, squares = 0, torch.zeros(()), torch.zeros(())
    for rows in torch.split(source.train_x, _ROWS_AT_A_TIME):
        x = rows.double() / source.white
        n += x.numel() // x.sum(over).numel()
        total = total + x.sum(over, keepdim=True)
        squares = squares + x.square().sum(over, keepdim=True)
    mean = total / n
    std = (squares / n - mean.square()).clamp(min=0).sqrt()
    constant = std < 1e-6
    return mean[0].float(), std.masked_fill(constant, 1.0)[0].float()
