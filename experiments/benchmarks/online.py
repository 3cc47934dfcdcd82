"""Cost of an iteration of online learning, as ratios within one run on one thread.

    python experiments/benchmarks/online.py [--rounds N | --quick]

Needs MNIST under $AVALANCHE_EXT_DATA. Comparisons are medians over interleaved rounds.
"bare" is the same maths in a loop over plain tensors, an nn.Module and torch's SGD.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from avalanche.benchmarks import SplitMNIST, split_online_stream
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from drl_loops import RingLoops
from harness import (
    Seconds,
    flat,
    make_model,
    make_strategy,
    medians,
    mnist_folder,
    options,
    quiet_on,
    timed,
)
from torch import Tensor, nn

from avalanche_ext.benchmarks import split_mnist
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders, TensorLoader, in_memory
from avalanche_ext.metrics import NoEvaluation, TransferMatrix
from avalanche_ext.plugins import BalancedReplayPlugin, OnlineReplayPlugin

N_TASKS, N_SAMPLES, LR = 5, 1000, 0.02


def step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Bare:
    """Experience replay as a user would write it by hand, for one model and one stream."""

    def __init__(self, datasets: list[InMemoryDataset], width: int, mem_size: int) -> None:
        self.datasets = datasets
        self.model = make_model(width)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR)
        self.cross_entropy = nn.CrossEntropyLoss()
        self.rng = np.random.default_rng(0)
        self.x = torch.zeros(mem_size, *datasets[0].x.shape[1:])
        self.y = torch.zeros(mem_size, dtype=torch.int64)
        self.size = self.seen = 0

    def online_replay(self, batch_size: int = 10) -> None:
        capacity = len(self.x)
        for dataset in self.datasets:
            for x, y, _ in TensorLoader(dataset, batch_size, shuffle=True):
                new_x, new_y = x, y
                if self.size:
                    n = min(batch_size, self.size)
                    rows = torch.from_numpy(self.rng.choice(self.size, n, replace=False))
                    x, y = torch.cat([x, self.x[rows]]), torch.cat([y, self.y[rows]])
                step(self.model, self.optimizer, self.cross_entropy(self.model(x), y))
                n_new = len(new_y)
                if self.size < capacity:
                    slots = np.arange(self.size, min(self.size + n_new, capacity))
                    self.size += len(slots)
                else:
                    slots = self.rng.integers(0, np.arange(self.seen, self.seen + n_new) + 1)
                kept = np.flatnonzero(slots < capacity)
                if len(kept):
                    target = torch.from_numpy(slots[kept])
                    self.x[target] = new_x[torch.from_numpy(kept)]
                    self.y[target] = new_y[torch.from_numpy(kept)]
                self.seen += n_new


def ours(
    benchmark: object, width: int, batch_size: int, plugins: list[object], **kwargs: object
) -> Seconds:
    strategy = make_strategy(make_model(width), [InMemoryLoaders(), *plugins], LR, **kwargs)
    strategy.train_mb_size = batch_size
    return timed(lambda: [strategy.train(e, eval_streams=[]) for e in benchmark.train_stream])


def avalanche_online(benchmark: object, n_iterations: int = 100) -> Seconds:
    """Train on the last of the mini-experiences, when the buffer is full."""
    buffer = ReservoirSamplingBuffer(500)
    plugins = [ReplayPlugin(mem_size=500, batch_size=10, storage_policy=buffer)]
    strategy = make_strategy(
        make_model(100), plugins, LR, train_mb_size=10, evaluator=EvaluationPlugin()
    )
    warm_up = n_iterations
    stream = iter(split_online_stream(benchmark.train_stream, experience_size=10, seed=0))
    for _ in range(warm_up):
        strategy.train(next(stream), eval_streams=[])
    measured = [next(stream) for _ in range(n_iterations)]
    return timed(lambda: [strategy.train(e, eval_streams=[]) for e in measured]) / n_iterations


def naive(experience: object, plugins: list[object], evaluator: object) -> tuple[Seconds, Tensor]:
    model = make_model(100)
    strategy = make_strategy(model, plugins, LR, train_mb_size=10, evaluator=evaluator)
    seconds = timed(lambda: strategy.train(experience, eval_streams=[], shuffle=False))
    return seconds, flat(model)


def evaluation(stream: object, plugins: list[object], **kwargs: object) -> Seconds:
    strategy = make_strategy(make_model(100), plugins, LR, **kwargs)
    n_samples = sum(len(e.dataset) for e in stream)
    return timed(lambda: strategy.eval(stream)) / n_samples


def compare(
    name: str, unit: float, rounds: int, limit: str, *runs: Callable[[], Seconds]
) -> tuple[float, ...]:
    """Print the medians of two runs over interleaved rounds, and their ratio."""
    first, second = (unit * seconds for seconds in medians(runs, rounds))
    print(f"{name:<66}{first:>10.3f}{second:>12.3f}{first / second:>9.2f}   {limit}", flush=True)
    return first, second


def main() -> None:
    rounds = options(__doc__).parse_args().rounds
    root = mnist_folder()
    quiet_on(1)
    benchmark = split_mnist(N_TASKS, N_SAMPLES, data_root=root)
    train = [e.dataset for e in benchmark.train_stream]
    slow = SplitMNIST(N_TASKS, fixed_class_order=list(range(10)), dataset_root=root)
    iterations = N_TASKS * N_SAMPLES

    print(f"{'':<66}{'first':>10}{'second':>12}{'ratio':>9}   wanted")
    for width, limit in ((100, "<= 1.4"), (400, "<= 1.2")):
        compare(
            f"ER 10+10, 2x{width}, plugin vs bare, ms an iteration",
            1e3 / (iterations / 10),
            rounds,
            limit,
            lambda w=width: ours(benchmark, w, 10, [OnlineReplayPlugin()]),
            lambda w=width: timed(Bare(train, w, 500).online_replay),
        )
        compare(
            f"BER 1 -> 20, 2x{width}, plugin vs bare, ms an iteration",
            1e3 / iterations,
            rounds,
            limit,
            lambda w=width: ours(benchmark, w, 1, [BalancedReplayPlugin()]),
            lambda w=width: timed(RingLoops(train, w, LR).balanced_replay),
        )
    compare(
        "BER 2x100, Avalanche's evaluator vs NoEvaluation, ms an iteration",
        1e3 / iterations,
        rounds,
        "",
        lambda: ours(benchmark, 100, 1, [BalancedReplayPlugin()], evaluator=EvaluationPlugin()),
        lambda: ours(benchmark, 100, 1, [BalancedReplayPlugin()]),
    )
    compare(
        "ER 2x100, Avalanche's online stream vs plugin, ms",
        1e3,
        rounds,
        ">= 6",
        lambda: avalanche_online(slow),
        lambda: ours(benchmark, 100, 10, [OnlineReplayPlugin()]) / (iterations / 10),
    )
    # Avalanche orders the samples of an experience by class, so both runs use its experiences.
    fast = in_memory(slow).train_stream[0]
    compare(
        "Naive 2x100, Avalanche's loader vs in memory, s",
        1.0,
        min(rounds, 3),
        ">= 2",
        lambda: naive(slow.train_stream[0], [], EvaluationPlugin())[0],
        lambda: naive(fast, [InMemoryLoaders()], NoEvaluation())[0],
    )
    weights = [
        naive(slow.train_stream[0], [], EvaluationPlugin())[1],
        naive(fast, [InMemoryLoaders()], NoEvaluation())[1],
    ]
    print(f"{'  same weights for the same order':<66}{torch.equal(*weights)!s:>10}")
    for batch_size, limit in ((10, ">= 15"), (100, "")):
        compare(
            f"evaluation 2x100, Avalanche's at {batch_size} vs in memory, us a sample",
            1e6,
            min(rounds, 3),
            limit,
            lambda b=batch_size: evaluation(
                slow.test_stream, [], eval_mb_size=b, evaluator=EvaluationPlugin()
            ),
            lambda: evaluation(benchmark.test_stream, [TransferMatrix(), InMemoryLoaders()]),
        )


if __name__ == "__main__":
    main()
