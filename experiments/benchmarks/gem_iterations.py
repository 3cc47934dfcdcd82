"""Cost of an iteration of GEM by hand, in Avalanche's plugin, and in ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import EvaluationPlugin, GEMPlugin
from gem_setting import (
    BATCH_SIZE,
    LR,
    MEMORY_SIZE,
    MEMORY_STRENGTH,
    BareGEM,
    Setting,
    make_settings,
)
from harness import Seconds, flat, make_strategy, medians
from torch import Tensor

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.plugins import MGEMPlugin

BARE, AVALANCHE, GEM = "bare loop", "Avalanche's GEMPlugin", "GEM"
AS_IT_COMES = "the same, Avalanche's loader"
VARIANTS: dict[str, dict[str, Any]] = {
    GEM: {},
    "p-mGEM, a block per layer": {"partition": "layer"},
    "p-mGEM, a block per tensor": {"partition": "tensor"},
    "d-mGEM, 2 groups per task": {"n_groups": 2, "memory_strength": MEMORY_STRENGTH / 2},
    "GEM, diagonal approximation": {"solver": "diagonal"},
}
# OpenBLAS's threads spin for about 30 ms after each product, and would slow down the next run.
PAUSE = 0.1

LEGEND = """
ms per training iteration of the next task after T tasks, medians. The memories are filled before,
and all runs start from the same weights and see the same batches in the same order.
bare loop: batches cut from a tensor; one autograd.grad per past task, flattened into a row of
    (T, P); backward on the batch; violation test, and if violated Gram matrix in torch, quadprog,
    projection; SGD step.
the others: Naive with InMemoryLoaders and NoEvaluation (except the third row, which is unchanged
    Avalanche), from before_training_epoch to after_training_epoch: loading batches, all hooks, and
    all of the above; ours also stores the batch in the memory. The set-up of train() and what
    Avalanche's plugin stores after a task are not counted.
    d-mGEM has half the memory_strength, so that twice the constraints push equally hard.
projected: share of the iterations in which at least one constraint was violated.
apart: distance of the final weights from the bare loop's, relative to how far the bare loop moved.
    Equal projections end about 1e-6 apart, or much more once rounding has switched a ReLU."""


@dataclass
class Run:
    """The latest run of one implementation from a setting."""

    weights: Tensor
    projected: float = 0.0


class CountingGEMPlugin(GEMPlugin):  # type: ignore[misc]
    """Avalanche's plugin, with a count of its projections."""

    n_projections = 0

    def solve_quadprog(self, g: Tensor) -> Tensor:
        self.n_projections += 1
        return super().solve_quadprog(g)


class Stopwatch(SupervisedPlugin):  # type: ignore[misc]
    """Measure the iterations of an epoch, without the rest of `train`."""

    seconds: Seconds

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.started = perf_counter()

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        self.seconds = perf_counter() - self.started


def n_iterations(setting: Setting) -> int:
    return -(-len(setting.experience.dataset) // BATCH_SIZE)


def memories(setting: Setting) -> Iterator[tuple[int, Tensor, Tensor]]:
    return zip(count(), setting.memory_x, setting.memory_y)


def bare(setting: Setting, run: Run) -> Seconds:
    gem = BareGEM(setting)
    started = perf_counter()
    n_projections = sum(gem.iteration(x, y) for x, y in setting.batches())
    seconds = perf_counter() - started
    run.weights, run.projected = flat(gem.model), n_projections / n_iterations(setting)
    return seconds


def avalanche(setting: Setting, run: Run, in_memory: bool = True) -> Seconds:
    plugin = CountingGEMPlugin(MEMORY_SIZE, MEMORY_STRENGTH)
    for past, x, y in memories(setting):
        plugin.memory_x[past], plugin.memory_y[past] = x, y
        plugin.memory_tid[past] = torch.zeros_like(y)
    seconds = in_naive(setting, run, plugin, in_memory)
    run.projected = plugin.n_projections / n_iterations(setting)
    return seconds


def ours(setting: Setting, run: Run, **arguments: Any) -> Seconds:
    plugin = MGEMPlugin(MEMORY_SIZE, **{"memory_strength": MEMORY_STRENGTH, **arguments})
    for past, x, y in memories(setting):
        plugin.buffer.add(x, y, torch.zeros_like(y), past)
    seconds = in_naive(setting, run, plugin)
    # Empty without statistics, which would take time.
    run.projected = plugin.diagnostics().get("mgem/projected", run.projected)
    return seconds


def in_naive(setting: Setting, run: Run, plugin: object, in_memory: bool = True) -> Seconds:
    stopwatch, model = Stopwatch(), setting.model()
    settings: dict[str, Any] = {} if in_memory else {"evaluator": EvaluationPlugin()}
    loaders = [InMemoryLoaders()] if in_memory else []
    strategy = make_strategy(
        model, [stopwatch, *loaders, plugin], LR, train_mb_size=BATCH_SIZE, **settings
    )
    strategy.clock.train_exp_counter = len(setting.memory_x)
    strategy.train(setting.experience, eval_streams=[], shuffle=False)
    run.weights = flat(model)
    return stopwatch.seconds


def report(n_tasks: Sequence[int], iterations: int, rounds: int) -> None:
    contestants: dict[str, Callable[..., Seconds]] = {
        BARE: bare,
        AVALANCHE: avalanche,
        AS_IT_COMES: partial(avalanche, in_memory=False),
    }
    for name, variant in VARIANTS.items():
        contestants[name] = partial(ours, **variant)
    print(LEGEND)
    titles = f"{'ms':>8}{'/bare':>8}{'/Avalanche':>12}{'projected':>11}{'apart':>9}"
    print(f"\n{'T':>3}  {'':<30}{titles}")
    for setting in make_settings(n_tasks, max(MEMORY_SIZE, iterations * BATCH_SIZE)):
        start = flat(setting.model())
        runs = {name: Run(start) for name in contestants}
        timings = [partial(f, setting, runs[name]) for name, f in contestants.items()]
        seconds = dict(zip(contestants, medians(timings, rounds, PAUSE), strict=True))
        for name in VARIANTS:
            contestants[name](setting, runs[name], statistics=True)
        by_hand = runs[BARE].weights
        for name, run in runs.items():
            apart = (run.weights - by_hand).norm() / (by_hand - start).norm()
            print(
                f"{len(setting.memory_x):>3}  {name:<30}"
                f"{seconds[name] / n_iterations(setting) * 1e3:>8.2f}"
                f"{seconds[name] / seconds[BARE]:>8.2f}{seconds[name] / seconds[AVALANCHE]:>12.2f}"
                f"{run.projected:>11.0%}{float(apart):>9.0e}",
                flush=True,
            )
