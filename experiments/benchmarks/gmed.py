"""What an iteration of GMED and of its neighbours costs, as ratios within one run.

    python experiments/benchmarks/gmed.py [--rounds N] [--threads N]

Needs MNIST under $AVALANCHE_EXT_DATA. Split MNIST by the protocol of GMED (Jin, Du and Ren 2021):
five experiences of 1,000 samples in batches of 10, a memory of 500 from which 10 are replayed, an
MLP, SGD at 0.05.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from avalanche.benchmarks import benchmark_from_datasets
from harness import Seconds, make_model, make_strategy, medians, timed
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks import split_mnist
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders, TensorLoader
from avalanche_ext.functional import edit_examples
from avalanche_ext.functional.editing import interfering
from avalanche_ext.functional.lookahead import LookAhead
from avalanche_ext.models import MLP
from avalanche_ext.plugins import BGDPlugin, GMEDPlugin, HALPlugin, MIRPlugin, OnlineReplayPlugin

N_TASKS, N_SAMPLES, BATCH_SIZE, N_CANDIDATES = 5, 1000, 10, 50
N_ITERATIONS = N_TASKS * N_SAMPLES // BATCH_SIZE
LR, STRIDE, REG_STRENGTH = 0.05, 5.0, 0.01
WIDTHS = (100, 400)

LEGEND = """
ms a training iteration of 10 + 10 samples, medians of interleaved runs of 500 iterations.
plugin: in Naive with InMemoryLoaders and NoEvaluation, one call of `train` an experience.
bare: the same maths and draws in a loop over plain tensors; the look-ahead is written into the
    model's parameters, which are saved before and put back.
functional: the bare loop, with the look-ahead in tensors that torch.func.functional_call gets.
/bare: of the plugin; at most 1.2 is wanted of ER+GMED at 2x400. /ER: the plugin to ER's plugin.
apart: distance between the weights of plugin and bare loop after the run in float64, relative to
    how far the loop has moved."""

Model = Callable[[Tensor], Tensor]
Samples = tuple[Tensor, Tensor]


@dataclass
class Setting:
    """Where all start from.

    Attributes:
        datasets: Training samples of each experience.
        width: Of the two hidden layers.
    """

    datasets: Sequence[InMemoryDataset]
    width: int

    def model(self) -> MLP:
        return make_model(self.width, "torch").to(self.datasets[0].x.dtype)

    def in_double_precision(self) -> Setting:
        return Setting([InMemoryDataset(d.x.double(), d.y, d.t) for d in self.datasets], self.width)


class Reservoir:
    """A memory that keeps and draws what `ReservoirBuffer` does; its size divides by batches."""

    def __init__(self, like: Tensor, size: int = 500) -> None:
        self.rng = np.random.default_rng(0)
        self.x = like.new_zeros(size, *like.shape[1:])
        self.y = torch.zeros(size, dtype=torch.int64)
        self.size = self.seen = 0

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Tensor:
        if self.size <= n:
            return torch.arange(self.size)
        return torch.from_numpy((rng or self.rng).choice(self.size, n, replace=False))

    def fetch(self, rows: Tensor) -> Samples:
        return self.x[rows], self.y[rows]

    def add(self, x: Tensor, y: Tensor) -> None:
        seen = np.arange(self.seen, self.seen + len(y))
        slots = seen if self.size < len(self.y) else self.rng.integers(0, seen + 1)
        rows = np.flatnonzero(slots < len(self.y))
        self.seen += len(y)
        self.size = min(self.seen, len(self.y))
        if len(rows):
            target, source = torch.from_numpy(slots[rows]), torch.from_numpy(rows)
            self.x[target], self.y[target] = x[source], y[source]


class Bare:
    """The methods as a user would write them by hand, for one model."""

    def __init__(self, setting: Setting, functional: bool = False) -> None:
        self.model = setting.model()
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters = [*self.model.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=LR)
        self.memory = Reservoir(setting.datasets[0].x)
        self.rng_of_edits = np.random.default_rng([1, 0])
        self.functional = functional

    def run(self, datasets: Sequence[InMemoryDataset], replay: Callable[..., Samples]) -> None:
        shuffle = torch.Generator().manual_seed(0)
        for dataset in datasets:
            for x, y, _ in TensorLoader(dataset, BATCH_SIZE, shuffle=True, generator=shuffle):
                if self.memory.size:
                    self.step(x, y, *replay(self, x, y))
                else:
                    self.step(x, y, x[:0], y[:0])
                self.memory.add(x, y)

    def step(self, x: Tensor, y: Tensor, memory_x: Tensor, memory_y: Tensor) -> None:
        n = len(y)
        outputs = self.model(torch.cat([x, memory_x]))
        loss = cross_entropy(outputs[:n], y)
        if len(memory_y):
            loss = loss + cross_entropy(outputs[n:], memory_y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def er(self, x: Tensor, y: Tensor) -> Samples:
        return self.memory.fetch(self.memory.draw(BATCH_SIZE))

    def mir(self, x: Tensor, y: Tensor) -> Samples:
        candidates = self.memory.fetch(self.memory.draw(N_CANDIDATES))
        before = losses(self.model, *candidates)
        with self.one_step_ahead(x, y) as model:
            increase = losses(model, *candidates) - before
        return most(increase, *candidates)

    def gmed(self, x: Tensor, y: Tensor) -> Samples:
        rows = self.memory.draw(BATCH_SIZE)
        self.memory.x[rows] = edited = self.edited(x, y, *self.memory.fetch(rows))
        return edited, self.memory.y[rows]

    def edited(self, x: Tensor, y: Tensor, memory_x: Tensor, memory_y: Tensor) -> Tensor:
        now = gradient_in_x(self.model, memory_x, memory_y)
        with self.one_step_ahead(x, y) as model:
            ahead = gradient_in_x(model, memory_x, memory_y)
        return moved(memory_x, now, ahead)

    def mir_gmed(self, x: Tensor, y: Tensor) -> Samples:
        candidates = self.memory.fetch(self.memory.draw(N_CANDIDATES))
        rows = self.memory.draw(BATCH_SIZE, self.rng_of_edits)
        samples = self.memory.fetch(rows)
        before, now = losses(self.model, *candidates), gradient_in_x(self.model, *samples)
        with self.one_step_ahead(x, y) as model:
            increase = losses(model, *candidates) - before
            ahead = gradient_in_x(model, *samples)
        self.memory.x[rows] = moved(samples[0], now, ahead)
        return most(increase, *candidates)

    @contextmanager
    def one_step_ahead(self, x: Tensor, y: Tensor) -> Iterator[Model]:
        loss = cross_entropy(self.model(x), y)
        gradients = torch.autograd.grad(loss, self.parameters)
        if self.functional:
            moved = [p.detach() - LR * g for p, g in zip(self.parameters, gradients, strict=True)]
            yield partial(functional_call, self.model, dict(zip(self.names, moved, strict=True)))
            return
        saved = [p.detach().clone() for p in self.parameters]
        with torch.no_grad():
            torch._foreach_add_(self.parameters, gradients, alpha=-LR)
        yield self.model
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, saved)


def losses(model: Model, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return cross_entropy(model(x), y, reduction="none")


def gradient_in_x(model: Model, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model(x), y), x)
    return gradient


def moved(x: Tensor, now: Tensor, ahead: Tensor) -> Tensor:
    return x + STRIDE * (ahead - (1 + REG_STRENGTH) * now)


def most(increase: Tensor, x: Tensor, y: Tensor) -> Samples:
    rows = increase.topk(min(BATCH_SIZE, len(y))).indices
    return x[rows], y[rows]


@dataclass
class Method:
    """A plugin, the same by hand if there is that, and the most it may cost beside it."""

    plugin: Callable[[], object]
    replay: Callable[[Bare, Tensor, Tensor], Samples] | None = None
    wanted: str = ""


GMED = partial(GMEDPlugin, stride=STRIDE, reg_strength=REG_STRENGTH)
METHODS = {
    "ER": Method(lambda: OnlineReplayPlugin(loss="sum"), Bare.er),
    "ER+GMED": Method(GMED, Bare.gmed, "1.2"),
    "MIR": Method(MIRPlugin, Bare.mir),
    "MIR+GMED": Method(partial(GMED, retrieval="mir"), Bare.mir_gmed),
    "HAL": Method(lambda: HALPlugin(loss="sum")),
    "BGD": Method(BGDPlugin),
}


def ours(setting: Setting, method: Method) -> tuple[Seconds, Tensor]:
    model = setting.model()
    plugins = [InMemoryLoaders(), method.plugin()]
    strategy = make_strategy(model, plugins, LR, train_mb_size=BATCH_SIZE)
    stream = benchmark_from_datasets(train=setting.datasets).train_stream
    seconds = timed(lambda: [strategy.train(e, eval_streams=[]) for e in stream])
    return seconds, flat(model)


def bare(setting: Setting, method: Method, functional: bool = False) -> tuple[Seconds, Tensor]:
    loop = Bare(setting, functional)
    return timed(lambda: loop.run(setting.datasets, method.replay)), flat(loop.model)


def flat(model: MLP) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def apart(setting: Setting, method: Method) -> float:
    exact = setting.in_double_precision()
    _, by_plugin = ours(exact, method)
    _, by_hand = bare(exact, method)
    return float((by_plugin - by_hand).norm() / (by_hand - flat(exact.model())).norm())


def report_methods(setting: Setting, rounds: int) -> None:
    runs: dict[tuple[str, str], Callable[[], Seconds]] = {}
    for name, method in METHODS.items():
        runs[name, "plugin"] = lambda method=method: ours(setting, method)[0]
        if method.replay is not None:
            runs[name, "bare"] = lambda method=method: bare(setting, method)[0]
            runs[name, "functional"] = lambda method=method: bare(setting, method, True)[0]
    times = medians([*runs.values()], rounds)
    ms = {key: 1e3 / N_ITERATIONS * own for key, own in zip(runs, times, strict=True)}
    print(
        f"\n{f'MLP 2x{setting.width}':<12}{'plugin':>8}{'bare':>8}{'functional':>12}"
        f"{'/bare':>8}{'/functional':>13}{'/ER':>8}{'apart':>10}"
    )
    for name, method in METHODS.items():
        plugin = ms[name, "plugin"]
        to_er = f"{plugin / ms['ER', 'plugin']:>8.2f}"
        if method.replay is None:
            print(f"{name:<12}{plugin:>8.2f}{'':>41}{to_er}", flush=True)
            continue
        loop, functional = ms[name, "bare"], ms[name, "functional"]
        print(
            f"{name:<12}{plugin:>8.2f}{loop:>8.2f}{functional:>12.2f}{plugin / loop:>8.2f}"
            f"{plugin / functional:>13.2f}{to_er}{apart(setting, method):>10.0e}",
            flush=True,
        )


def report_edits(setting: Setting, rounds: int, n_edits: int = 100) -> None:
    first = setting.datasets[0]
    stream_x, memory_x = first.x[: 2 * BATCH_SIZE].split(BATCH_SIZE)
    stream_y, memory_y = first.y[: 2 * BATCH_SIZE].split(BATCH_SIZE)
    model, edit = setting.model(), {"stride": STRIDE, "reg_strength": REG_STRENGTH}
    by_hand = {functional: Bare(setting, functional) for functional in (False, True)}
    known = LookAhead(model)

    def in_plugin() -> Tensor:
        outputs = known.after([stream_x], stream_y, LR)
        return interfering(
            outputs, [memory_x], memory_y, cross_entropy, **edit, n_steps=1, bounds=None
        )

    batches = (stream_x, stream_y, memory_x, memory_y)
    contestants = [
        in_plugin,
        lambda: edit_examples(model, memory_x, memory_y, stream_x, stream_y, lr=LR, **edit),
        lambda: by_hand[False].edited(*batches),
        lambda: by_hand[True].edited(*batches),
    ]
    runs = [
        lambda edit=edit: timed(lambda: [edit() for _ in range(n_edits)]) for edit in contestants
    ]
    plugin, function, loop, functional = (1e3 / n_edits * t for t in medians(runs, rounds))
    print(
        f"{'one edit':<12}{plugin:>8.2f}{loop:>8.2f}{functional:>12.2f}{plugin / loop:>8.2f}"
        f"{plugin / functional:>13.2f}        edit_examples: {function:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    root = os.environ.get("AVALANCHE_EXT_DATA")
    if root is None:
        sys.exit("set AVALANCHE_EXT_DATA to the folder that holds MNIST/raw")
    torch.set_num_threads(arguments.threads)
    warnings.showwarning = lambda *_: None  # Avalanche turns its own warnings on in every call.
    benchmark = split_mnist(N_TASKS, N_SAMPLES, data_root=Path(root))
    datasets = [e.dataset for e in benchmark.train_stream]
    print(f"threads: {arguments.threads}, rounds: {arguments.rounds}\n{LEGEND}")
    for width in WIDTHS:
        setting = Setting(datasets, width)
        report_methods(setting, arguments.rounds)
        report_edits(setting, arguments.rounds)


if __name__ == "__main__":
    main()
