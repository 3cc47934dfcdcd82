"""A small data set with numbered samples, and which seed draws them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.data.samples import SharedRows


def source(n_classes: int = 6, n_train: int = 60, n_test: int = 30) -> Source:
    """Images of 1×2×2 pixels whose first pixel is the sample's number."""

    def part(n: int, first: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(first))
        x[:, 0, 0, 0] = torch.arange(first, first + n)
        return x, torch.arange(n) % n_classes

    return Source(*part(n_train, 0), *part(n_test, 1000), n_classes=n_classes)


def numbers(x: Tensor | SharedRows) -> list[int]:
    """The numbers of samples that are neither permuted nor rotated."""
    return [int(v) for v in made(x)[:, 0, 0, 0].tolist()]


def made(x: Tensor | SharedRows) -> Tensor:
    """Samples of a task, whether stored or made from images that several tasks share."""
    return x.read() if isinstance(x, SharedRows) else x


each_subset = pytest.mark.parametrize(
    ("subset", "order", "follows_run", "follows_order"),
    [
        ("first", None, False, False),
        ("order", None, False, False),
        ("order", 3, False, True),
        ("order", "seed", True, False),
        ("seed", None, True, False),
        ("seed", 3, True, False),
    ],
)


def check_whose_seed_draws(
    drawn: Callable[[int, Any], Any], order: Any, follows_run: bool, follows_order: bool
) -> None:
    """Check which seeds change the samples `drawn` by a run's seed and the seed of orders."""
    assert drawn(0, order) == drawn(0, order)
    assert (drawn(0, order) != drawn(1, order)) is follows_run
    if isinstance(order, int):
        assert (drawn(0, order) != drawn(0, order + 1)) is follows_order
