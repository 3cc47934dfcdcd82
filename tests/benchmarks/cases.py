"""A small data set whose samples can be told apart."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_ext.benchmarks.sources import Source


def source(n_classes: int = 6, n_train: int = 60, n_test: int = 30) -> Source:
    """Images of 1×2×2 pixels whose first pixel is the sample's number."""

    def part(n: int, first: int) -> tuple[Tensor, Tensor]:
        x = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(first))
        x[:, 0, 0, 0] = torch.arange(first, first + n)
        return x, torch.arange(n) % n_classes

    return Source(*part(n_train, 0), *part(n_test, 1000), n_classes=n_classes)


def numbers(x: Tensor) -> list[int]:
    """The numbers of samples that are neither permuted nor rotated."""
    return [int(v) for v in x[:, 0, 0, 0].tolist()]
