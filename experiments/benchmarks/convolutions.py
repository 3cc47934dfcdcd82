"""Effect of bfloat16 and channels last on steps, methods and Fishers of a reduced ResNet-18.

    python experiments/benchmarks/convolutions.py [--only steps|methods|fishers] [--rounds N]
        [--quick]

Random 3x32x32 images, one thread, 20 filters. Times are processor time, which other processes
disturb less, as medians over interleaved rounds; the ratio to float32 with channels first is in
brackets. --quick runs one round of a few settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import process_time

import torch
from avalanche.benchmarks import CLScenario
from avalanche.training import Naive
from harness import Seconds, make_strategy, medians, quiet_on
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks.build import build_benchmark
from avalanche_ext.benchmarks.tasks import Task
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.functional.fisher.diagonal import diagonal_fisher
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from avalanche_ext.functional.model.precision import (
    bfloat16_is_fast,
    use_bfloat16,
    use_channels_last,
)
from avalanche_ext.models.catalogue import slim_resnet18
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    GMEDPlugin,
    MGEMPlugin,
    MIRPlugin,
    OnlineReplayPlugin,
)

SHAPE, N_CLASSES, LR = (3, 32, 32), 10, 0.01
BATCH, N_ITERATIONS, N_TASKS = 10, 2, 4

Way = tuple[bool, bool]
"""Whether in bfloat16, and whether with channels last."""

WAYS: dict[str, Way] = {
    "fp32": (False, False),
    "channels last": (False, True),
    "bf16": (True, False),
    "both": (True, True),
}

METHODS: dict[str, Callable[[], list[object]]] = {
    "plain": list,
    "ER": lambda: [OnlineReplayPlugin(200, BATCH)],
    "BER": lambda: [BalancedReplayPlugin(200, BATCH)],
    "DRL": lambda: [BalancedReplayPlugin(200, BATCH), DRLPlugin()],
    "GEM, 10 a task": lambda: [MGEMPlugin(10)],
    "GEM, 64 a task": lambda: [MGEMPlugin(64)],
    "GMED": lambda: [GMEDPlugin(200, BATCH)],
    "MIR": lambda: [MIRPlugin(200, BATCH)],
}


QUICK = ("ER", "DRL", "GEM, 10 a task")


def timed(run: Callable[[], object]) -> Seconds:
    started = process_time()
    run()
    return process_time() - started


def resnet(way: Way) -> nn.Module:
    torch.manual_seed(0)
    model = slim_resnet18(input_shape=SHAPE, n_classes=N_CLASSES)
    if way[1]:
        use_channels_last(model)
    if way[0]:
        use_bfloat16(model)
    return model


def images(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, *SHAPE, generator=generator)
    return x, torch.randint(N_CLASSES, (n,), generator=generator)


def step(way: Way, n: int) -> Callable[[], Seconds]:
    """Return a function that runs one iteration of a bare loop."""
    model, (x, y) = resnet(way), images(n)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def iteration() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    iteration()
    return partial(timed, iteration)


def stream() -> CLScenario:
    x, y = images(N_TASKS * 64 + BATCH * N_ITERATIONS)
    sizes = [*[64] * N_TASKS, BATCH * N_ITERATIONS]
    parts = zip(x.split(sizes), y.split(sizes), strict=True)
    return build_benchmark([Task(px, py, px[:1], py[:1]) for px, py in parts], "domain")


def method(way: Way, plugins: Sequence[object]) -> Callable[[], Seconds]:
    """Return a function that runs a plugin's iteration with samples of four tasks in memory."""
    strategy: Naive = make_strategy(
        resnet(way), [InMemoryLoaders(), *plugins], LR, train_mb_size=BATCH
    )
    *earlier, last = stream().train_stream
    strategy.train_mb_size = 64
    for experience in earlier:
        strategy.train(experience, eval_streams=[])
    strategy.train_mb_size = BATCH
    return lambda: timed(lambda: strategy.train(last, eval_streams=[])) / N_ITERATIONS


def fishers(n: int, n_spectrum: int) -> Iterator[tuple[str, Mapping[str, Callable[[], Seconds]]]]:
    """Yield the cost of Fisher estimates in each layout; they always use float32."""
    (x, y), (more, _) = images(n), images(n_spectrum)
    layouts = {name: resnet(WAYS[name]) for name in ("fp32", "channels last")}
    for kind in ("true", "sampled"):
        yield (
            f"{kind} Fisher, {n} samples",
            {
                name: partial(timed, partial(diagonal_fisher, model, x, y, kind))
                for name, model in layouts.items()
            },
        )
    yield (
        f"top 20 eigenpairs, {n_spectrum} samples",
        {
            name: partial(timed, partial(fisher_spectrum, model, more, None, 20, "sampled"))
            for name, model in layouts.items()
        },
    )


def report(title: str, runs: Mapping[str, Callable[[], Seconds]], rounds: int) -> None:
    """Print the time of each run, and its ratio to the first."""
    first, *others = medians([*runs.values()], rounds)
    cells = [f"{1e3 * first:>9.0f}", *(f"{1e3 * t:>9.0f} ({t / first:.2f})" for t in others)]
    print(f"{title:<36}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["steps", "methods", "fishers"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    quiet_on(1)
    print(f"rounds: {rounds}; bfloat16 is fast: {bfloat16_is_fast(torch.device('cpu'))}")
    print(f"{'ms (ratio)':<36}" + "".join(f"{name:>18}" for name in WAYS))
    if arguments.only in (None, "steps"):
        for n in (20,) if arguments.quick else (20, 256):
            report(f"step, batch {n}", {k: step(way, n) for k, way in WAYS.items()}, rounds)
    if arguments.only in (None, "methods"):
        for name in QUICK if arguments.quick else METHODS:
            runs = {key: method(way, METHODS[name]()) for key, way in WAYS.items()}
            report(f"{name}, batch {BATCH}", runs, rounds)
    if arguments.only in (None, "fishers"):
        sizes = (10, 10) if arguments.quick else (100, 256)
        for title, runs in fishers(*sizes):
            report(title, runs, 1)


if __name__ == "__main__":
    main()
