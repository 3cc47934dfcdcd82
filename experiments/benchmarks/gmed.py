"""Cost of an iteration of GMED and related methods, as ratios within one run.

    python experiments/benchmarks/gmed.py [--rounds N | --quick] [--threads N]

Needs MNIST under $AVALANCHE_EXT_DATA. Split MNIST by the protocol of GMED (Jin, Du and Ren 2021):
five experiences of 1,000 samples in batches of 10, a memory of 500 from which 10 are replayed, an
MLP, SGD at 0.05.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from avalanche.benchmarks import benchmark_from_datasets
from gmed_loops import BATCH_SIZE, EDIT, LR, Bare, Samples, Setting, Way
from harness import Seconds, flat, make_strategy, medians, mnist_folder, options, quiet_on, timed
from torch import Tensor
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks import split_mnist
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.functional import edit_examples
from avalanche_ext.functional.lookahead.editing import edited_examples
from avalanche_ext.functional.lookahead.lookahead import step_ahead
from avalanche_ext.plugins import BGDPlugin, GMEDPlugin, HALPlugin, MIRPlugin, OnlineReplayPlugin

N_TASKS, N_SAMPLES = 5, 1000
N_ITERATIONS = N_TASKS * N_SAMPLES // BATCH_SIZE
WIDTHS = (100, 400)

LEGEND = """
ms per training iteration of 10 + 10 samples, medians of interleaved runs of 500 iterations.
plugin: in Naive with InMemoryLoaders and NoEvaluation, with one call of `train` per experience.
bare: the same maths and draws in a loop over plain tensors. The look-ahead's parameters replace the
    model's and are then restored; the training step starts from scratch.
functional: the look-ahead's parameters go through torch.func.functional_call instead.
reusing: like bare, but the step reuses the stream's gradient from the look-ahead.
/bare: the plugin relative to bare; target: at most 1.2 for ER+GMED at 2x400. /ER: the plugin
    relative to ER's plugin.
apart: distance of the plugin's final weights from the bare loop's in float64, relative to how far
    the loop moved.
edit: only the edit of 10 samples, by the plugin and by the function `edit_examples`."""

Runs = dict[tuple[str, str], Callable[[], Seconds]]
WAYS: tuple[Way, ...] = ("bare", "functional", "reusing")


METHODS: dict[str, tuple[Callable[[], object], Callable[..., Samples] | None]] = {
    "ER": (lambda: OnlineReplayPlugin(loss="sum"), Bare.er),
    "ER+GMED": (lambda: GMEDPlugin(**EDIT), Bare.gmed),
    "MIR": (MIRPlugin, Bare.mir),
    "MIR+GMED": (lambda: GMEDPlugin(**EDIT, retrieval="mir"), Bare.mir_gmed),
    "HAL": (lambda: HALPlugin(loss="sum"), None),
    "BGD": (BGDPlugin, None),
}


def ours(setting: Setting, plugin: Callable[[], object]) -> tuple[Seconds, Tensor]:
    model = setting.model()
    strategy = make_strategy(model, [InMemoryLoaders(), plugin()], LR, train_mb_size=BATCH_SIZE)
    stream = benchmark_from_datasets(train=setting.datasets).train_stream
    seconds = timed(lambda: [strategy.train(e, eval_streams=[]) for e in stream])
    return seconds, flat(model)


def by_hand(
    setting: Setting, replay: Callable[..., Samples], way: Way = "bare"
) -> tuple[Seconds, Tensor]:
    loop = Bare(setting, way)
    return timed(lambda: loop.run(setting.datasets, replay)), flat(loop.model)


def apart(setting: Setting, name: str) -> str:
    (plugin, replay), exact = METHODS[name], setting.in_double_precision()
    if replay is None:
        return ""
    (_, in_naive), (_, in_loop) = ours(exact, plugin), by_hand(exact, replay)
    return f"{float((in_naive - in_loop).norm() / (in_loop - flat(exact.model())).norm()):.0e}"


def iterations(setting: Setting) -> Runs:
    runs: Runs = {}
    for name, (plugin, replay) in METHODS.items():
        runs[name, "plugin"] = lambda plugin=plugin: ours(setting, plugin)[0]
        if replay is not None:
            for way in WAYS if name != "ER" else WAYS[:1]:
                runs[name, way] = lambda r=replay, w=way: by_hand(setting, r, w)[0]
    return runs


def edits(setting: Setting) -> Runs:
    """Return runs with as many edits as the other runs have iterations."""
    first, model = setting.datasets[0], setting.model()
    stream_x, x = first.x[: 2 * BATCH_SIZE].split(BATCH_SIZE)
    stream_y, y = first.y[: 2 * BATCH_SIZE].split(BATCH_SIZE)

    def in_plugin() -> Tensor:
        outputs = step_ahead(model, cross_entropy, [stream_x], stream_y, LR)
        return edited_examples(outputs, [x], y, cross_entropy, **EDIT, n_steps=1, bounds=None)

    def by_function() -> Tensor:
        return edit_examples(model, x, y, stream_x, stream_y, lr=LR, **EDIT)

    contestants = {("edit", "plugin"): in_plugin, ("edit_examples", "plugin"): by_function}
    for way in WAYS[:2]:
        loop = Bare(setting, way)
        contestants["edit", way] = partial(loop.edited, stream_x, stream_y, x, y)
    return {
        key: lambda edit=edit: timed(lambda: [edit() for _ in range(N_ITERATIONS)])
        for key, edit in contestants.items()
    }


def report(setting: Setting, rounds: int) -> None:
    runs = iterations(setting) | edits(setting)
    seconds = dict(zip(runs, medians([*runs.values()], rounds), strict=True))
    titles = ("plugin", *WAYS, "/bare", "/reusing", "/ER", "apart")
    print(f"\n{f'MLP 2x{setting.width}':<14}" + "".join(f"{title:>11}" for title in titles))
    for name in dict.fromkeys(name for name, _ in runs):
        plugin, *loops = (seconds.get((name, column)) for column in ("plugin", *WAYS))
        others = (loops[0], loops[2], seconds["ER", "plugin"] if name in METHODS else None)
        cells = [f"{t / N_ITERATIONS * 1e3:.2f}" if t else "" for t in (plugin, *loops)]
        cells += [f"{plugin / t:.2f}" if t else "" for t in others]
        cells += [apart(setting, name) if name in METHODS else ""]
        print(f"{name:<14}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    benchmark = split_mnist(N_TASKS, N_SAMPLES, data_root=mnist_folder())
    quiet_on(arguments.threads)
    print(f"threads: {arguments.threads}, rounds: {arguments.rounds}\n{LEGEND}")
    for width in WIDTHS:
        report(Setting([e.dataset for e in benchmark.train_stream], width), arguments.rounds)


if __name__ == "__main__":
    main()
