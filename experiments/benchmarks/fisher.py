"""Cost of Fishers, their spectra and EWC's penalties, as ratios within one run.

    python experiments/benchmarks/fisher.py [--rounds N | --quick] [--resnet]

Needs Linux, and MNIST under $AVALANCHE_EXT_DATA; uses one thread. The Fishers are those of an MLP
2x100 on 1,000 images of MNIST and, with --resnet, of a reduced ResNet-18 (20 filters) on random
3x32x32 images.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from avalanche.benchmarks import benchmark_from_datasets
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import EWCPlugin
from fisher_setting import (
    BY_KERNEL,
    FISHERS,
    LOOP,
    N_SAMPLES,
    ONE_PASS,
    SCIPY,
    SPECTRA,
    WIDTH,
    Setting,
    mlp,
    on_one_thread,
    resnet,
)
from harness import Seconds, make_model, make_strategy, medians, mnist_folder, options, timed
from torch import Tensor

from avalanche_ext.benchmarks import permuted_mnist
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.plugins import (
    ConsolidationPlugin,
    FisherSpectrumEWCPlugin,
    KroneckerEWCPlugin,
    OnlineEWCPlugin,
)

BATCH_SIZE, LR, LAM = 10, 0.1, 1.0
N_EARLIER = (1, 19)
N_RESNET_SAMPLES, N_RESNET_SPECTRUM = 100, 256
MOST_SECONDS = 600

LEGEND = """
ms: medians over interleaved rounds; MB: peak memory beyond the model and the samples, in a separate
process.
loop: one backward pass per sample.
/pass: relative to one forward and backward pass; target: at most 2 for the diagonals with one label
    per sample. "true" needs a backward pass for each of 10 classes.
loop/: how many times as long the loop takes; target: at least 15 for the same diagonals.
/eigsh: relative to scipy's Lanczos with Fisher-vector products; target: at most 0.1 for the kernel.
apart: largest difference of an eigenvalue from scipy's, relative to the largest eigenvalue.
an iteration: 10 samples of Permuted MNIST in Naive with InMemoryLoaders and NoEvaluation, after one
    and after nineteen earlier tasks of 100 samples, each with its own permutation. /plain: relative
    to no plugin; target: at most 1.4 for online EWC. /EWC: relative to proximal online EWC; target:
    at most 1.3 for the spectrum with k = 20 and for Kronecker factors.
every tenth: with the diagonal; target for /plain: at most 1.5 with k = 20, and 4 with k = 100.
kept: memory of F and the anchor after these tasks, in MB.
by autograd: (lam/2) sum F (theta - theta*)^2, added to the loss."""

Ratios = Mapping[str, tuple[str, int]]
"""By title: the run that times are divided by, and the exponent of the ratio."""


def peak(name: str, make: Callable[[], Setting], run: Callable[[Setting], object]) -> float:
    """Return the peak memory of a run beyond what was in use before, in MB."""
    # Otherwise, reused memory that had been freed would not be counted.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(sender, make, run), daemon=True)
    process.start()
    sender.close()  # Otherwise a failed process would go unnoticed.
    try:
        if not receiver.poll(MOST_SECONDS):
            process.kill()
            raise RuntimeError(f"{name}: no peak of memory after {MOST_SECONDS} s")
        megabytes: float = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"{name}: the process that was to find the peak of memory ended with the exit code "
            f"{process.exitcode}"
        ) from None
    process.join()
    return megabytes


def _send_peak(
    sender: Connection, make: Callable[[], Setting], run: Callable[[Setting], object]
) -> None:
    setting = make()
    run(setting.first(2))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
    before = _peak_so_far()
    run(setting)
    sender.send(_peak_so_far() - before)


def _peak_so_far() -> float:
    # Not getrusage's, which a new process inherits from its parent.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def report_fishers(
    title: str,
    make: Callable[[], Setting],
    contestants: Mapping[str, Callable[[Setting], object]],
    ratios: Ratios,
    rounds: int,
) -> None:
    setting = make()
    runs = [partial(timed, partial(run, setting)) for run in contestants.values()]
    for run in contestants.values():
        run(setting.first(2))
    seconds = dict(zip(contestants, medians(runs, rounds), strict=True))
    print(f"\n{title:<44}{'ms':>10}{'MB':>8}" + "".join(f"{ratio:>10}" for ratio in ratios))
    for name, run in contestants.items():
        cells = [(seconds[name] / seconds[other]) ** power for other, power in ratios.values()]
        print(
            f"{name:<44}{seconds[name] * 1e3:>10.1f}{peak(name, make, run):>8.0f}"
            + "".join(f"{cell:>10.3f}" for cell in cells),
            flush=True,
        )


def report_differences(
    setting: Setting, contestants: Mapping[str, Callable[[Setting], Tensor]]
) -> None:
    expected = contestants[SCIPY](setting)
    print(f"\n{'eigenvalues':<44}{'apart':>10}")
    for name, run in contestants.items():
        if name != SCIPY:
            difference = (run(setting) - expected).abs().max() / expected[0]
            print(f"{name:<44}{float(difference):>10.0e}", flush=True)


class PenaltyByAutograd(SupervisedPlugin):  # type: ignore[misc]
    """Online EWC's penalty as it is usually written.

    Args:
        estimating: A plugin of the same strategy that keeps the diagonal and the anchor but does
            not use them.
    """

    def __init__(self, estimating: OnlineEWCPlugin) -> None:
        super().__init__()
        self.estimating = estimating
        self.terms: list[tuple[Tensor, Tensor, Tensor]] = []

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Copy the estimates for the earlier tasks."""
        curvature, anchor = self.estimating.curvature, self.estimating.anchor
        if isinstance(curvature, LowRankCurvature) and anchor is not None:
            assert curvature.diagonal is not None
            layout = FlatLayout(strategy.model.named_parameters())
            pieces = layout.pieces(anchor), layout.pieces(curvature.diagonal)
            self.terms = [*zip(layout.parameters, *pieces, strict=True)]

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the penalty to the loss."""
        if self.terms:
            penalties = [(f * (p - anchor).square()).sum() for p, anchor, f in self.terms]
            strategy.loss += LAM / 2 * sum(penalties)


def by_autograd() -> list[object]:
    estimating = OnlineEWCPlugin(lam=0.0)
    return [estimating, PenaltyByAutograd(estimating)]


PLAIN, ONLINE = "plain", "online EWC, proximal"
PENALTIES: dict[str, Callable[[], list[object]]] = {
    PLAIN: list,
    ONLINE: lambda: [OnlineEWCPlugin(LAM)],
    "online EWC, gradient": lambda: [OnlineEWCPlugin(LAM, update="gradient")],
    "online EWC, by autograd": by_autograd,
    "Avalanche's EWC, separate": lambda: [EWCPlugin(LAM / 2, mode="separate")],
    "Kronecker": lambda: [KroneckerEWCPlugin(LAM)],
    "Kronecker, every iteration": lambda: [KroneckerEWCPlugin(LAM, interval=1)],
    "Kronecker, all eigenvectors": lambda: [KroneckerEWCPlugin(LAM, rank=None)],
    "spectrum, k = 20": lambda: [FisherSpectrumEWCPlugin(LAM, rank=20, residual="none")],
    "spectrum, k = 20, with diagonal": lambda: [FisherSpectrumEWCPlugin(LAM, rank=20)],
    "spectrum, k = 20, every tenth": lambda: [FisherSpectrumEWCPlugin(LAM, rank=20, interval=10)],
    "spectrum, k = 100, with diagonal": lambda: [FisherSpectrumEWCPlugin(LAM, rank=100)],
    "spectrum, k = 100, every tenth": lambda: [FisherSpectrumEWCPlugin(LAM, rank=100, interval=10)],
}


WIDE = (PLAIN, ONLINE, "Kronecker", "Kronecker, all eigenvectors", "spectrum, k = 20")
"""Those that are measured with wide layers as well."""


def training(plugins: list[object], n_earlier: int, width: int) -> tuple[Seconds, float]:
    """Return the seconds of training on one task after `n_earlier` others, without its Fisher.

    The second number is the memory that the plugins keep, in MB.
    """
    strategy = make_strategy(
        make_model(width), [InMemoryLoaders(), *plugins], LR, train_mb_size=BATCH_SIZE
    )
    benchmark = permuted_mnist(n_earlier + 1, N_SAMPLES, data_root=mnist_folder())
    *earlier, last = [experience.dataset for experience in benchmark.train_stream]
    short = [dataset.subset([*range(100)]) for dataset in earlier]
    stream = benchmark_from_datasets(train=[*short, last]).train_stream
    for experience in stream[:-1]:
        strategy.train(experience, eval_streams=[])
    kept = sum(
        value
        for plugin in plugins
        if isinstance(plugin, ConsolidationPlugin)
        for name, value in plugin.diagnostics().items()
        if name.endswith("/megabytes")
    )
    for plugin in plugins:
        plugin.after_training_exp = lambda *_, **__: None  # type: ignore[attr-defined]
    return timed(lambda: strategy.train(stream[-1], eval_streams=[])), kept


def report_penalties(rounds: int, width: int, names: Sequence[str]) -> None:
    heads = "".join(f"{f'ms, {n}':>10}{'/plain':>8}{'/EWC':>8}{'kept':>8}" for n in N_EARLIER)
    print(f"\n{f'an iteration, MLP 2x{width}, earlier tasks':<44}{heads}")
    columns: list[tuple[dict[str, Seconds], dict[str, float]]] = []
    for n in N_EARLIER:
        kept: dict[str, float] = {}

        def run(name: str, n: int = n, kept: dict[str, float] = kept) -> Seconds:
            seconds, kept[name] = training(PENALTIES[name](), n, width)
            return seconds

        times = medians([partial(run, name) for name in names], rounds)
        columns.append((dict(zip(names, times, strict=True)), kept))
    for name in names:
        cells = "".join(
            f"{times[name] / N_SAMPLES * BATCH_SIZE * 1e3:>10.3f}"
            f"{times[name] / times[PLAIN]:>8.2f}{times[name] / times[ONLINE]:>8.2f}"
            f"{kept[name]:>8.1f}"
            for times, kept in columns
        )
        print(f"{name:<44}{cells}", flush=True)


def main() -> None:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--resnet", action="store_true")
    arguments = parser.parse_args()
    rounds: int = arguments.rounds
    on_one_thread()
    print(f"rounds: {rounds}\n{LEGEND}")
    to_passes: Ratios = {"/pass": (ONE_PASS, 1), "loop/": (LOOP, -1)}
    report_fishers("MLP 2x100, 1,000 samples", mlp, FISHERS, to_passes, rounds)
    report_fishers("MLP 2x100, 1,000 samples", mlp, SPECTRA, {"/eigsh": (SCIPY, 1)}, rounds)
    report_differences(mlp(), SPECTRA)
    report_penalties(rounds, WIDTH, [*PENALTIES])
    report_penalties(rounds, 4 * WIDTH, WIDE)
    if arguments.resnet:
        few, more = partial(resnet, N_RESNET_SAMPLES), partial(resnet, N_RESNET_SPECTRUM)
        report_fishers("ResNet-18, nf 20, 100 samples", few, FISHERS, to_passes, 1)
        report_fishers("ResNet-18, nf 20, 256 samples", more, BY_KERNEL, {}, 1)


if __name__ == "__main__":
    main()
