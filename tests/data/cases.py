"""Small datasets whose samples are easy to distinguish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avalanche_ext.data import InMemoryDataset

N = 12


def columns(n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    return torch.arange(3.0 * n).view(n, 3), torch.arange(n) % 4, torch.arange(n) % 2


def dataset(n: int = N, transform: Any = None) -> InMemoryDataset:
    return InMemoryDataset(*columns(n), transform)


def negated(x: Tensor) -> Tensor:
    """A transform that is easily seen."""
    return -1 - x


def content(data: Any) -> list[list[Any]]:
    """Samples as Avalanche and torch see them, one at a time."""
    return [[x.tolist(), y, t] for x, y, t in (data[i] for i in range(len(data)))]


def assert_same(data: Any, expected: Any) -> None:
    assert content(data) == content(expected)
    assert list(data.targets) == list(expected.targets)
    assert list(data.targets_task_labels) == list(expected.targets_task_labels)
    assert len(data) == len(expected)
