"""What Fishers, their spectra and the penalties of EWC cost, as ratios within one run.

    python experiments/benchmarks/fisher.py [--rounds N] [--threads N] [--resnet]

Needs MNIST under $AVALANCHE_EXT_DATA. Fishers are of an MLP 2x100 and 1,000 images of MNIST;
with --resnet also of a reduced ResNet-18 (20 filters) and random images of 3x32x32.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from avalanche.benchmarks import benchmark_from_datasets
from harness import Seconds, make_model, make_strategy, medians, mnist_folder, quiet_on, timed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks import permuted_mnist
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders
from avalanche_ext.functional import diagonal_fisher, fisher_spectrum
from avalanche_ext.models.catalogue import slim_resnet18
from avalanche_ext.plugins import FisherSpectrumEWCPlugin, OnlineEWCPlugin

WIDTH, BATCH_SIZE, LR, LAM = 100, 10, 0.1, 1.0
N_SAMPLES, N_RESNET_SAMPLES, N_RESNET_SPECTRUM = 1000, 100, 256

LEGEND = """
ms, medians of rounds in which the contestants take turns; MB, the peak of memory above what the
model and the samples take, in a process of its own.
loop: a backward pass for each sample. explicit: the same, for MAS and SI there is no such thing.
lanczos: scipy's eigsh with Fisher-vector products.
penalty by autograd: (lam/2) sum F (theta - theta*)^2, added to the loss.
an iteration: 10 samples of Permuted MNIST in Naive with InMemoryLoaders and NoEvaluation; /plain:
to that without a plugin, after one and after nineteen earlier tasks."""


@dataclass(frozen=True)
class Setting:
    """A model, and the samples whose Fisher is wanted."""

    model: nn.Module
    x: Tensor
    y: Tensor


def mlp() -> Setting:
    torch.set_num_threads(1)
    dataset = first_task()
    return Setting(make_model(WIDTH), dataset.x, dataset.y)


def resnet(n: int) -> Setting:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = slim_resnet18(input_shape=(3, 32, 32), n_classes=10)
    return Setting(model, torch.rand(n, 3, 32, 32), torch.randint(10, (n,)))


def first_task() -> InMemoryDataset:
    benchmark = permuted_mnist(1, N_SAMPLES, data_root=mnist_folder())
    dataset: InMemoryDataset = benchmark.train_stream[0].dataset
    return dataset


def forward_and_backward(setting: Setting) -> None:
    setting.model.zero_grad()
    cross_entropy(setting.model(setting.x), setting.y).backward()


def loop(setting: Setting) -> None:
    setting.model.eval()
    parameters = [*setting.model.parameters()]
    sums = [torch.zeros_like(p) for p in parameters]
    for x, y in zip(setting.x.split(1), setting.y.split(1), strict=True):
        gradients = torch.autograd.grad(cross_entropy(setting.model(x), y), parameters)
        for total, gradient in zip(sums, gradients, strict=True):
            total.addcmul_(gradient, gradient)
    setting.model.train()


def diagonal(setting: Setting, kind: str) -> None:
    diagonal_fisher(setting.model, setting.x, setting.y, kind)


def spectrum(setting: Setting, method: str) -> None:
    fisher_spectrum(setting.model, setting.x, setting.y, 20, "sampled", method=method)


FISHERS: dict[str, Callable[[Setting], None]] = {
    "forward + backward": forward_and_backward,
    "loop": loop,
    **{f"diagonal, {kind}": partial(diagonal, kind=kind) for kind in ("sampled", "true")},
}
SPECTRA: dict[str, Callable[[Setting], None]] = {
    "top 20 by the kernel": partial(spectrum, method="kernel"),
    "top 20 by lanczos": partial(spectrum, method="lanczos"),
}


def peak(make: Callable[[], Setting], run: Callable[[Setting], None]) -> float:
    """Return the memory that a run takes at most beyond what there was before, in MB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_send_peak, args=(sender, make, run)
    )
    process.start()
    megabytes: float = receiver.recv()
    process.join()
    return megabytes


def _send_peak(
    sender: multiprocessing.connection.Connection,
    make: Callable[[], Setting],
    run: Callable[[Setting], None],
) -> None:
    setting = make()
    run(Setting(setting.model, setting.x[:2], setting.y[:2]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(setting)
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def report_fishers(
    title: str,
    make: Callable[[], Setting],
    contestants: dict[str, Callable[[Setting], None]],
    rounds: int,
) -> None:
    setting = make()
    runs = [lambda run=run: timed(lambda: run(setting)) for run in contestants.values()]
    runs[0]()
    times = medians(runs, rounds)
    print(f"\n{title:<44}{'ms':>10}{'MB':>8}")
    for (name, run), seconds in zip(contestants.items(), times, strict=True):
        print(f"{name:<44}{seconds * 1e3:>10.1f}{peak(make, run):>8.0f}", flush=True)


class PenaltyByAutograd(OnlineEWCPlugin):
    """Online EWC as it is usually written."""

    def before_backward(self, strategy: object, **kwargs: object) -> None:
        if self.curvature is None:
            return
        parameters = [*strategy.model.parameters()]
        pairs = zip(parameters, self.layout.pieces(self.anchor), strict=True)
        deltas = torch.cat([(p - anchor).flatten() for p, anchor in pairs])
        strategy.loss += 0.5 * self.lam * (self.curvature.diagonal * deltas**2).sum()

    def after_update(self, strategy: object, **kwargs: object) -> None:
        """Leave the parameters where the optimizer has moved them."""


PENALTIES: dict[str, Callable[[], list[object]]] = {
    "plain": list,
    "online EWC, proximal": lambda: [OnlineEWCPlugin(LAM)],
    "online EWC, gradient": lambda: [OnlineEWCPlugin(LAM, update="gradient")],
    "spectrum, k = 20": lambda: [FisherSpectrumEWCPlugin(LAM, rank=20, residual="none")],
    "spectrum, k = 20, with diagonal": lambda: [FisherSpectrumEWCPlugin(LAM, rank=20)],
    "spectrum, k = 100, with diagonal": lambda: [FisherSpectrumEWCPlugin(LAM, rank=100)],
}


def iterations(dataset: InMemoryDataset, plugins: list[object], n_tasks: int) -> Seconds:
    """Return the seconds of training on one task after so many others, without their Fishers."""
    strategy = make_strategy(
        make_model(WIDTH), [InMemoryLoaders(), *plugins], LR, train_mb_size=BATCH_SIZE
    )
    short = dataset.subset([*range(100)])
    stream = benchmark_from_datasets(train=[*[short] * n_tasks, dataset]).train_stream
    for experience in stream[:-1]:
        strategy.train(experience, eval_streams=[])
    for plugin in plugins:
        plugin.after_training_exp = lambda *_, **__: None
    return timed(lambda: strategy.train(stream[-1], eval_streams=[]))


def report_penalties(rounds: int) -> None:
    dataset = first_task()
    print(f"\n{'an iteration':<44}{'ms':>10}{'/plain':>8}{'ms, 19':>10}{'/plain':>8}")
    columns = [
        medians(
            [lambda make=make, n=n: iterations(dataset, make(), n) for make in PENALTIES.values()],
            rounds,
        )
        for n in (1, 19)
    ]
    n_iterations = N_SAMPLES / BATCH_SIZE
    for name, *times in zip(PENALTIES, *columns, strict=True):
        cells = "".join(
            f"{seconds / n_iterations * 1e3:>10.3f}{seconds / column[0]:>8.2f}"
            for seconds, column in zip(times, columns, strict=True)
        )
        print(f"{name:<44}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--resnet", action="store_true")
    arguments = parser.parse_args()
    quiet_on(1)
    print(f"rounds: {arguments.rounds}\n{LEGEND}")
    report_fishers("MLP 2x100, 1,000 samples", mlp, FISHERS | SPECTRA, arguments.rounds)
    report_penalties(arguments.rounds)
    if arguments.resnet:
        report_fishers(
            "ResNet-18, nf 20, 100 samples", partial(resnet, N_RESNET_SAMPLES), FISHERS, 1
        )
        top = {name: SPECTRA[name] for name in ("top 20 by the kernel",)}
        report_fishers(
            "ResNet-18, nf 20, 256 samples", partial(resnet, N_RESNET_SPECTRUM), top, 1
        )


if __name__ == "__main__":
    main()
