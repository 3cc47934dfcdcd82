"""Starting points for comparing GEMs, and GEM as a user would write it by hand for speed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quadprog
import torch
from harness import make_model
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from avalanche_ext.benchmarks import Task, build_benchmark, permuted_mnist
from avalanche_ext.models import MLP

MEMORY_SIZE, BATCH_SIZE, LR, MEMORY_STRENGTH = 256, 10, 0.1, 0.5
WIDTH = 100


@dataclass(frozen=True)
class Setting:
    """The start of a task after T others.

    Attributes:
        weights: State of the model, trained on the T tasks by plain SGD.
        memory_x: Samples held of the past tasks, (T, 256, 1, 28, 28).
        memory_y: Their classes, (T, 256).
        experience: The task to train on.
    """

    weights: dict[str, Tensor]
    memory_x: Tensor
    memory_y: Tensor
    experience: Any

    def model(self) -> MLP:
        model = make_model(WIDTH)
        model.load_state_dict(self.weights)
        return model

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        dataset = self.experience.dataset
        return zip(dataset.x.split(BATCH_SIZE), dataset.y.split(BATCH_SIZE), strict=True)


def make_settings(n_tasks: Sequence[int], train_size: int) -> Iterator[Setting]:
    """Yield the settings after each number of tasks of `train_size` samples, in ascending order."""
    if train_size < MEMORY_SIZE:
        raise ValueError(f"train_size must be at least {MEMORY_SIZE}, but is {train_size}")
    stream = _benchmark(max(n_tasks) + 1, train_size).train_stream
    memory_x = torch.stack([e.dataset.x[-MEMORY_SIZE:] for e in stream])
    memory_y = torch.stack([e.dataset.y[-MEMORY_SIZE:] for e in stream])
    model = make_model(WIDTH)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for past, experience in enumerate(stream):
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        setting = Setting(weights, memory_x[:past], memory_y[:past], experience)
        if past in n_tasks:
            yield setting
        for x, y in setting.batches():
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()


def _benchmark(n_experiences: int, train_size: int) -> Any:
    root = os.environ.get("AVALANCHE_EXT_DATA")
    if root is not None:
        return permuted_mnist(n_experiences, train_size, test_size=1, data_root=Path(root))
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for _ in range(n_experiences):
        # As in MNIST, a fifth of the pixels are lit; which ones depends on the class.
        lit = torch.rand(10, 1, 28, 28, generator=generator) < 0.2
        y = torch.randint(10, (train_size,), generator=generator)
        x = lit[y] * torch.rand(train_size, 1, 28, 28, generator=generator)
        tasks.append(Task(x, y, x[:1], y[:1]))
    return build_benchmark(tasks, "domain")


class BareGEM:
    """GEM in a loop over plain tensors; everything of the model's size stays in torch."""

    def __init__(self, setting: Setting) -> None:
        self.model = setting.model()
        self.parameters = [*self.model.parameters()]
        self.sizes = [p.numel() for p in self.parameters]
        self.optimizer = torch.optim.SGD(self.parameters, lr=LR)
        self.memory = [*zip(setting.memory_x, setting.memory_y, strict=True)]
        self.references = torch.empty(len(self.memory), sum(self.sizes))

    def iteration(self, x: Tensor, y: Tensor) -> bool:
        """Train on a batch, and return whether its gradient was projected."""
        for row, (past_x, past_y) in zip(self.references, self.memory, strict=True):
            past_loss = cross_entropy(self.model(past_x), past_y)
            gradients = torch.autograd.grad(past_loss, self.parameters)
            torch.cat([g.flatten() for g in gradients], out=row)
        self.optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        gradient = torch.cat([p.grad.flatten() for p in self.parameters])
        violated = bool((self.references @ gradient < 0).any())
        if violated:
            projected = self.project(gradient).split(self.sizes)
            for parameter, piece in zip(self.parameters, projected, strict=True):
                parameter.grad.copy_(piece.view_as(parameter))
        self.optimizer.step()
        return violated

    def project(self, gradient: Tensor) -> Tensor:
        return project(gradient, self.references)


def project(gradient: Tensor, references: Tensor) -> Tensor:
    """Return the projection of (P,) by (T, P) as GEM's official code computes it."""
    gram, products = dual_problem(gradient, references)
    v = torch.from_numpy(solve_by_quadprog(gram, products)).to(gradient.dtype)
    return torch.addmv(gradient, references.T, v)


def dual_problem(
    gradient: Tensor, references: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Gram matrix, (T, T), and the products with the gradient, (T,)."""
    gram, products = references @ references.T, references @ gradient
    return gram.double().numpy(), products.double().numpy()


def solve_by_quadprog(
    gram: NDArray[np.float64], products: NDArray[np.float64]
) -> NDArray[np.float64]:
    identity = np.eye(len(gram))
    bounds = np.full(len(gram), MEMORY_STRENGTH)
    v: NDArray[np.float64] = quadprog.solve_qp(gram + 1e-3 * identity, -products, identity, bounds)[
        0
    ]
    return v
