"""Speed-up and cost of `training.compile`, for steps of small models, against a loop by hand.

    python experiments/benchmarks/compiled.py [--rounds N | --quick]

Needs MNIST under $AVALANCHE_EXT_DATA and a C++ compiler. Times are processor time on one thread,
medians over interleaved rounds. "bare" is the same maths in a loop over plain tensors, an nn.Module
and torch's SGD, as in online.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from time import process_time, thread_time
from typing import Protocol

import torch
from avalanche.benchmarks import CLExperience
from drl_loops import RingLoops, Term, drl
from harness import Seconds, make_model, make_strategy, medians, mnist_folder, options, quiet_on
from online import LR, Bare
from torch import nn

from avalanche_ext.benchmarks import split_mnist
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.functional import multi_similarity_loss
from avalanche_ext.functional.compiled.loss import CompiledLoss
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MultiSimilarityPlugin,
    OnlineReplayPlugin,
)
from avalanche_ext.plugins.core.guard import LossGuard
from avalanche_ext.strategies.compiled import compile_steps

N_TASKS = 3
N_CALLS = 200
TERMS: dict[str, tuple[Term, Callable[[], object]]] = {
    "DRL": (drl, DRLPlugin),
    "Multi-similarity": (multi_similarity_loss, MultiSimilarityPlugin),
}
"""What each method adds to the loss, by hand and by a plugin."""


def timed(run: Callable[[], object]) -> Seconds:
    started = thread_time()
    run()
    return thread_time() - started


def repeated(run: Callable[[], object]) -> None:
    for _ in range(N_CALLS):
        run()


class ByPlugin(Protocol):
    def __call__(self, *, is_compiled: bool) -> Seconds:
        """Return the seconds of an iteration through Avalanche."""


def ours(
    stream: Sequence[CLExperience],
    width: int,
    batch_size: int,
    *plugins: object,
    is_compiled: bool,
) -> Seconds:
    """Return the seconds per iteration in Avalanche, without compilation."""
    all_plugins = [InMemoryLoaders(), *plugins, LossGuard()]
    strategy = make_strategy(make_model(width), all_plugins, LR, train_mb_size=batch_size)
    if is_compiled:
        compile_steps(strategy)
    first, *others = stream
    strategy.train(first, eval_streams=[])
    before = strategy.clock.train_iterations
    seconds = timed(lambda: [strategy.train(each, eval_streams=[]) for each in others])
    return seconds / (strategy.clock.train_iterations - before)


def compare(
    name: str, wanted: str, rounds: int, by_hand: Callable[[], Seconds], by_plugin: ByPlugin
) -> Seconds:
    """Print milliseconds per iteration by hand, uncompiled and compiled, and their ratios.

    Returns:
        The seconds that compiling saves.
    """
    uncompiled, compiled = (partial(by_plugin, is_compiled=each) for each in (False, True))
    found = medians([by_hand, uncompiled, compiled], rounds)
    numbers = "".join(f"{1e3 * each:>10.3f}" for each in found)
    ratios = "".join(f"{each / found[0]:>10.2f}" for each in found[1:])
    print(f"{name:<34}{numbers}{ratios}   {wanted}", flush=True)
    return found[1] - found[2]


def first_tasks(n_samples: int) -> Sequence[CLExperience]:
    return split_mnist(5, n_samples, data_root=mnist_folder()).train_stream[:N_TASKS]


def replay(width: int, wanted: str, rounds: int) -> None:
    stream = first_tasks(1000)

    def by_hand() -> Seconds:
        loop = Bare([each.dataset for each in stream], width, 500)
        return timed(loop.online_replay) / (len(stream) * 100)

    def by_plugin(*, is_compiled: bool) -> Seconds:
        return ours(stream, width, 10, OnlineReplayPlugin(), is_compiled=is_compiled)

    compare(f"ER 10 + 10, 2x{width}", wanted, rounds, by_hand, by_plugin)


def balanced_replay(width: int, wanted: str, rounds: int, name: str) -> Seconds:
    """Return the seconds saved by compiling per iteration of BER, alone or with one of `TERMS`."""
    stream = first_tasks(300)
    term, make = TERMS.get(name, (None, None))

    def by_hand() -> Seconds:
        loop = RingLoops([each.dataset for each in stream], width, LR)
        return timed(partial(loop.balanced_replay, term=term)) / (len(stream) * 300)

    def by_plugin(*, is_compiled: bool) -> Seconds:
        plugins = [BalancedReplayPlugin(), *([make()] if make else [])]
        return ours(stream, width, 1, *plugins, is_compiled=is_compiled)

    return compare(f"{name} 1 -> 20, 2x{width}", wanted, rounds, by_hand, by_plugin)


def parts(width: int, rounds: int) -> None:
    """Print the microseconds of each part of a compiled iteration, and of the replay plugin."""
    stream = first_tasks(1000)
    model, criterion = make_model(width), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    loss, parameters = CompiledLoss(model, criterion), [*model.parameters()]
    x, y, _ = stream[0].dataset.fetch(torch.arange(20))
    gradients = loss(x, y).gradients

    def look() -> None:
        loss.is_still_of(model, criterion)
        loss.is_watched()

    @torch.no_grad()
    def update() -> None:
        torch._foreach_add_(parameters, gradients, alpha=-LR)

    def step() -> None:
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        optimizer.step()

    def eager() -> None:
        criterion(model(x), y).backward()

    pieces: dict[str, Callable[[], object]] = {
        "forward and backward, uncompiled": eager,
        "the compiled function": lambda: loss(x, y),
        "whether it still fits, and hooks": look,
        "the update": update,
        "the optimizer's own step": step,
        "zero_grad": optimizer.zero_grad,
    }
    strategy = make_strategy(model, [InMemoryLoaders(), LossGuard()], LR, train_mb_size=20)
    strategy.train(stream[0], eval_streams=[])
    hooks = [
        getattr(strategy, f"_{when}_{what}")
        for what in ("training_iteration", "forward", "backward", "update")
        for when in ("before", "after")
    ]
    pieces["Avalanche's calls of eight hooks"] = lambda: [hook() for hook in hooks]
    runs = [partial(timed, partial(repeated, each)) for each in pieces.values()]
    for name, seconds in zip(pieces, medians(runs, rounds), strict=True):
        print(f"  {name:<40}{1e6 * seconds / N_CALLS:>8.1f}", flush=True)
    naive = medians([lambda: ours(stream, width, 20, is_compiled=True)], rounds)[0]
    print(f"  {'an iteration of Naive, 20 samples':<40}{1e6 * naive:>8.1f}", flush=True)


def compiling(width: int, name: str) -> None:
    """Print the seconds from the first mini-batch until code is ready, for one row and several."""
    started = process_time()
    terms = [TERMS[name][1]()] if name in TERMS else []
    loss = CompiledLoss(make_model(width), nn.CrossEntropyLoss(), terms)
    for n in (1, 20):
        loss(torch.rand(n, 1, 28, 28), torch.zeros(n, dtype=torch.int64))
    children = os.times()
    print(process_time() - started + children.children_user + children.children_system)


def seconds_to_compile(cache: str, name: str) -> Seconds:
    """Return the seconds of compiling in a separate process."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--compiling", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--compiling", help=argparse.SUPPRESS)
    given = parser.parse_args()
    quiet_on(1)
    if given.compiling:
        compiling(100, given.compiling)
        return
    head = ("bare", "as it is", "compiled", "/ bare", "/ bare")
    print(f"{'processor time of an iteration, ms':<34}" + "".join(f"{each:>10}" for each in head))
    saved = {}
    for width, wanted in ((100, "<= 0.90, with the update <= 0.75"), (400, "<= 1.0")):
        replay(width, wanted, given.rounds)
        for name in ("BER", *TERMS):
            told = wanted if name == "BER" else ""
            saved[name, width] = balanced_replay(width, told, given.rounds, name)
    print("\nparts of an iteration at 2x100, 20 samples, us")
    parts(100, given.rounds)
    print()
    for name in ("BER", "DRL"):
        with tempfile.TemporaryDirectory() as cache:
            for which in ("first", "later"):
                seconds = seconds_to_compile(cache, name)
                print(
                    f"{which} process: {seconds:.1f} s to compile {name} at 2x100, which pays from "
                    f"{seconds / saved[name, 100]:,.0f} iterations on",
                    flush=True,
                )


if __name__ == "__main__":
    main()
