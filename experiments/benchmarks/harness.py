"""What the benchmarks share: the model, Avalanche's strategy, and medians of interleaved rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter, sleep
from typing import Literal

import torch
from avalanche.training import Naive
from torch import nn

from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.models import MLP

Seconds = float


def make_model(width: int, initialisation: Literal["xavier", "torch"] = "xavier") -> MLP:
    torch.manual_seed(0)
    return MLP([width, width], input_shape=(1, 28, 28), n_classes=10, initialisation=initialisation)


def make_strategy(model: nn.Module, plugins: list[object], lr: float, **kwargs: object) -> Naive:
    settings: dict[str, object] = {"eval_mb_size": 512, "evaluator": NoEvaluation(), **kwargs}
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return Naive(model=model, optimizer=optimizer, plugins=plugins, **settings)


def timed(run: Callable[[], object]) -> Seconds:
    started = perf_counter()
    run()
    return perf_counter() - started


def medians(
    runs: Sequence[Callable[[], Seconds]], rounds: int, pause: Seconds = 0.0
) -> list[Seconds]:
    """Return each run's median over rounds in which the runs take turns.

    A pause before each run lets threads that still spin after the run before it go to sleep.
    """
    times: list[list[Seconds]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times, strict=True):
            sleep(pause)
            own.append(run())
    return [statistics.median(own) for own in times]
