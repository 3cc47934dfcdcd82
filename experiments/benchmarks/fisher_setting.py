"""Fishers and their top eigenpairs, by the package and as a user would compute them by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from harness import make_model, mnist_folder, quiet_on
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks import permuted_mnist
from avalanche_ext.data import InMemoryDataset
from avalanche_ext.functional.fisher.diagonal import FisherKind, diagonal_fisher, fisher_rows
from avalanche_ext.functional.fisher.spectrum import SpectrumMethod, fisher_spectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import evaluating
from avalanche_ext.models.catalogue import slim_resnet18

WIDTH, N_SAMPLES, RANK = 100, 1000, 20


@dataclass(frozen=True)
class Setting:
    """A model, and the samples whose Fisher is wanted."""

    model: nn.Module
    x: Tensor
    y: Tensor

    def first(self, n: int) -> Setting:
        return Setting(self.model, self.x[:n], self.y[:n])


def first_task() -> InMemoryDataset:
    benchmark = permuted_mnist(1, N_SAMPLES, data_root=mnist_folder())
    dataset: InMemoryDataset = benchmark.train_stream[0].dataset
    return dataset


def on_one_thread() -> None:
    quiet_on(1)
    threadpool_limits(1)  # ARPACK's BLAS is not torch's.


def mlp() -> Setting:
    on_one_thread()
    dataset = first_task()
    return Setting(make_model(WIDTH), dataset.x, dataset.y)


def resnet(n: int) -> Setting:
    on_one_thread()
    torch.manual_seed(0)
    model = slim_resnet18(input_shape=(3, 32, 32), n_classes=10)
    return Setting(model, torch.rand(n, 3, 32, 32), torch.randint(10, (n,)))


def forward_and_backward(setting: Setting) -> None:
    setting.model.zero_grad()
    cross_entropy(setting.model(setting.x), setting.y).backward()


def loop(setting: Setting) -> None:
    """Compute the empirical diagonal with one backward pass per sample."""
    parameters = [*setting.model.parameters()]
    sums = [torch.zeros_like(p) for p in parameters]
    with evaluating(setting.model):
        for x, y in zip(setting.x.split(1), setting.y.split(1), strict=True):
            gradients = torch.autograd.grad(cross_entropy(setting.model(x), y), parameters)
            for total, gradient in zip(sums, gradients, strict=True):
                total.addcmul_(gradient, gradient)


def diagonal(setting: Setting, kind: FisherKind) -> None:
    diagonal_fisher(setting.model, setting.x, setting.y, kind)


def spectrum(setting: Setting, method: SpectrumMethod) -> Tensor:
    """Return the top eigenvalues of the sampled Fisher, (RANK,), descending."""
    top = fisher_spectrum(setting.model, setting.x, None, RANK, "sampled", method=method)
    return top.eigenvalues


def spectrum_by_scipy(setting: Setting) -> Tensor:
    """Return the same by scipy's Lanczos, with Fisher-vector products of all samples at once.

    With the Jacobian J (N, P) of the samples' losses for the drawn labels, a product is
    F v = Jᵀ(J v) / N. Since u ↦ Jᵀu is linear, J v is its transposed derivative: a backward pass
    through a backward pass whose graph is kept.
    """
    model, x, n = setting.model, setting.x, len(setting.x)
    layout = FlatLayout(model.named_parameters())
    with evaluating(model):
        logits = model(x)
    # Only the entry of the drawn label c in e_c − p is positive.
    labels = fisher_rows("sampled", None)(logits.detach(), torch.arange(n))[0].argmax(dim=1)
    losses = cross_entropy(logits, labels, reduction="none")
    u = torch.zeros(n, requires_grad=True)
    pulled = layout.flatten(torch.autograd.grad(losses, layout.parameters, u, create_graph=True))

    def product(vector: NDArray[Any]) -> NDArray[Any]:
        v = torch.from_numpy(vector)
        (along,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        back = torch.autograd.grad(losses, layout.parameters, along, retain_graph=True)
        image: NDArray[Any] = layout.flatten(back).div_(n).numpy()
        return image

    operator = LinearOperator((len(pulled), len(pulled)), product, dtype="float32")
    ascending, _ = eigsh(operator, RANK)
    return torch.from_numpy(ascending).flip(0)


Contestants = dict[str, Callable[[Setting], object]]

ONE_PASS, LOOP, SCIPY = "forward + backward", "loop", "top 20 by scipy's eigsh"
FISHERS: Contestants = {
    ONE_PASS: forward_and_backward,
    LOOP: loop,
    "diagonal, empirical": partial(diagonal, kind="empirical"),
    "diagonal, sampled": partial(diagonal, kind="sampled"),
    "diagonal, true": partial(diagonal, kind="true"),
}
BY_KERNEL: dict[str, Callable[[Setting], Tensor]] = {
    "top 20 by the kernel": partial(spectrum, method="kernel")
}
SPECTRA: dict[str, Callable[[Setting], Tensor]] = {
    **BY_KERNEL,
    "top 20 by our Lanczos": partial(spectrum, method="lanczos"),
    SCIPY: spectrum_by_scipy,
}
