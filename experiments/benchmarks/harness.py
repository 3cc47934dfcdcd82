"""Shared parts of the benchmarks: model, strategy, a memory by hand, interleaved medians."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Literal

import numpy as np
import torch
from avalanche.training import Naive
from torch import Tensor, nn

from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.models import MLP

Seconds = float


def options(description: str, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks, to which each adds its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N")
    parser.add_argument(
        "--quick", action="store_const", dest="rounds", const=1, help="one round of each"
    )
    return parser


def mnist_folder() -> Path:
    root = os.environ.get("AVALANCHE_EXT_DATA")
    if root is None:
        sys.exit("set AVALANCHE_EXT_DATA to the folder that holds MNIST/raw")
    return Path(root)


def quiet_on(threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.showwarning = lambda *_: None  # Avalanche re-enables its warnings in every call.


def make_model(width: int, initialisation: Literal["xavier", "torch"] = "xavier") -> MLP:
    torch.manual_seed(0)
    return MLP([width, width], input_shape=(1, 28, 28), n_classes=10, initialisation=initialisation)


def make_strategy(model: nn.Module, plugins: list[object], lr: float, **kwargs: object) -> Naive:
    settings: dict[str, object] = {"eval_mb_size": 512, "evaluator": NoEvaluation(), **kwargs}
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Naive(model=model, optimizer=optimizer, plugins=plugins, **settings)


class Reservoir:
    """A memory by hand that stores and draws the same samples as `ReservoirBuffer`.

    Its size must be a multiple of the batch size.
    """

    def __init__(self, like: Tensor, size: int = 500) -> None:
        self.rng = np.random.default_rng(0)
        self.x = like.new_zeros(size, *like.shape[1:])
        self.y = torch.zeros(size, dtype=torch.int64)
        self.size = self.seen = 0

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Tensor:
        if self.size <= n:
            return torch.arange(self.size)
        return torch.from_numpy((rng or self.rng).choice(self.size, n, replace=False))

    def fetch(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[slots], self.y[slots]

    def add(self, x: Tensor, y: Tensor) -> None:
        capacity, seen = len(self.y), np.arange(self.seen, self.seen + len(y))
        slots = seen if self.size < capacity else self.rng.integers(0, seen + 1)
        self.seen += len(y)
        self.size = min(self.seen, capacity)
        rows = np.flatnonzero(slots < capacity)
        if len(rows):
            target, source = torch.from_numpy(slots[rows]), torch.from_numpy(rows)
            self.x[target], self.y[target] = x[source], y[source]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def timed(run: Callable[[], object]) -> Seconds:
    started = perf_counter()
    run()
    return perf_counter() - started


def medians(
    runs: Sequence[Callable[[], Seconds]], rounds: int, pause: Seconds = 0.0
) -> list[Seconds]:
    """Return each run's median over interleaved rounds.

    A pause before each run lets spinning threads of the previous run go to sleep.
    """
    times: list[list[Seconds]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times, strict=True):
            sleep(pause)
            own.append(run())
    return [statistics.median(own) for own in times]
