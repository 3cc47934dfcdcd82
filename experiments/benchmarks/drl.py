"""Cost of the DRL paper's protocol: 5,000 iterations on Split MNIST and all evaluations.

    python experiments/benchmarks/drl.py [--rounds N | --quick]

Needs MNIST under $AVALANCHE_EXT_DATA. "bare" is the same maths in a loop over plain tensors, an
nn.Module and torch's SGD (drl_loops.py). Medians over interleaved rounds, one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from drl_loops import RingLoops, drl
from harness import (
    Seconds,
    make_model,
    make_strategy,
    medians,
    mnist_folder,
    options,
    quiet_on,
    timed,
)

from avalanche_ext.benchmarks import split_mnist
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders
from avalanche_ext.metrics import TransferMatrix
from avalanche_ext.plugins import (
    AGEMPlugin,
    BalancedReplayPlugin,
    DRLPlugin,
    GSSPlugin,
    MultiSimilarityPlugin,
    OnlineReplayPlugin,
    RMarginPlugin,
)

N_TASKS, N_SAMPLES, WIDTH, LR = 5, 1000, 100, 0.02
LIMIT = 1.5

METHODS: dict[str, Callable[[], list[object]]] = {
    "ER": lambda: [OnlineReplayPlugin(300, 20, buffer="ring", draw="half", stream="stored")],
    "BER": lambda: [BalancedReplayPlugin()],
    "DRL": lambda: [BalancedReplayPlugin(), DRLPlugin()],
    "A-GEM": lambda: [
        AGEMPlugin(
            300,
            buffer="ring",
            references="other_classes",
            replacement=True,
            replay="always",
            batch_size=20,
        )
    ],
    "Multisim": lambda: [BalancedReplayPlugin(), MultiSimilarityPlugin()],
    "R-margin": lambda: [BalancedReplayPlugin(), RMarginPlugin()],
    "GSS": lambda: [GSSPlugin(300, 10, 10)],
}
BARE: dict[str, Callable[[RingLoops], None]] = {
    "ER": RingLoops.experience_replay,
    "BER": RingLoops.balanced_replay,
    "DRL": lambda loops: loops.balanced_replay(term=drl),
    "A-GEM": RingLoops.averaged_gradient_episodic_memory,
}
PAPER: dict[str, Seconds] = {
    "ER": 5.25,
    "BER": 5.29,
    "DRL": 5.6,
    "A-GEM": 13.41,
    "Multisim": 5.89,
    "R-margin": 6.29,
    "GSS": 19.07,
}
"""Table 5 of the paper, on a laptop with eight cores."""


def protocol(benchmark: object, method: str) -> Seconds:
    batch_size = 10 if method == "GSS" else 1
    plugins = [TransferMatrix(), InMemoryLoaders(), *METHODS[method]()]
    strategy = make_strategy(make_model(WIDTH), plugins, LR, train_mb_size=batch_size)

    def run() -> None:
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
            strategy.eval(benchmark.test_stream)

    return timed(run)


def bare_protocol(
    train: list[InMemoryDataset], test: list[InMemoryDataset], method: str
) -> Seconds:
    loops = RingLoops(train, WIDTH, LR)

    def run() -> None:
        BARE[method](loops)
        for _ in train:
            loops.evaluate(test)

    return timed(run)


def main() -> None:
    rounds = options(__doc__).parse_args().rounds
    root = mnist_folder()
    quiet_on(1)
    benchmark = split_mnist(N_TASKS, N_SAMPLES, data_root=root)
    train = [e.dataset for e in benchmark.train_stream]
    test = [e.dataset for e in benchmark.test_stream]
    print(f"{'seconds':<10}{'plugins':>9}{'bare':>9}{'ratio':>8}{'paper':>9}   wanted <= {LIMIT}")
    for method, paper in PAPER.items():
        runs = [partial(protocol, benchmark, method)]
        if method in BARE:
            runs.append(partial(bare_protocol, train, test, method))
        ours, *bare = medians(runs, rounds)
        beside = f"{bare[0]:>9.2f}{ours / bare[0]:>8.2f}" if bare else " " * 17
        print(f"{method:<10}{ours:>9.2f}{beside}{paper:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
