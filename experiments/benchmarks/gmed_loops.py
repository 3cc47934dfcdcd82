"""ER, MIR and GMED as a user would write them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from harness import Reservoir, make_model
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from avalanche_ext.data import InMemoryDataset, TensorLoader
from avalanche_ext.models import MLP

BATCH_SIZE, N_CANDIDATES, LR = 10, 50, 0.05
EDIT: dict[str, Any] = {"stride": 5.0, "reg_strength": 0.01}

Samples = tuple[Tensor, Tensor]
Model = Callable[[Tensor], Tensor]
Way = Literal["bare", "functional", "reusing"]


@dataclass
class Setting:
    """The common start: training samples of each experience, and the MLP's width."""

    datasets: Sequence[InMemoryDataset]
    width: int

    def model(self) -> MLP:
        return make_model(self.width, "torch").to(self.datasets[0].x.dtype)

    def in_double_precision(self) -> Setting:
        return Setting([InMemoryDataset(d.x.double(), d.y, d.t) for d in self.datasets], self.width)


class Bare:
    """The methods as a user would write them by hand, for one model."""

    def __init__(self, setting: Setting, way: Way) -> None:
        self.model = setting.model()
        self.names = [name for name, _ in self.model.named_parameters()]
        self.parameters = [*self.model.parameters()]
        self.optimizer = torch.optim.SGD(self.parameters, lr=LR)
        self.memory = Reservoir(setting.datasets[0].x)
        self.rng_of_edits = np.random.default_rng([1, 0])
        self.way = way
        self.stream_gradients: Sequence[Tensor] = ()

    def run(self, datasets: Sequence[InMemoryDataset], replay: Callable[..., Samples]) -> None:
        shuffle = torch.Generator().manual_seed(0)
        for dataset in datasets:
            for x, y, _ in TensorLoader(dataset, BATCH_SIZE, shuffle=True, generator=shuffle):
                self.optimizer.zero_grad()
                if self.memory.size:
                    self.loss(x, y, *replay(self, x, y)).backward()
                else:
                    cross_entropy(self.model(x), y).backward()
                self.optimizer.step()
                self.memory.add(x, y)

    def loss(self, x: Tensor, y: Tensor, replayed_x: Tensor, replayed_y: Tensor) -> Tensor:
        if self.way == "reusing":
            for parameter, gradient in zip(self.parameters, self.stream_gradients, strict=True):
                parameter.grad = gradient
            return cross_entropy(self.model(replayed_x), replayed_y)
        outputs, n = self.model(torch.cat([x, replayed_x])), len(y)
        return cross_entropy(outputs[:n], y) + cross_entropy(outputs[n:], replayed_y)

    def er(self, x: Tensor, y: Tensor) -> Samples:
        return self.memory.fetch(self.memory.draw(BATCH_SIZE))

    def mir(self, x: Tensor, y: Tensor) -> Samples:
        candidates = self.memory.fetch(self.memory.draw(N_CANDIDATES))
        before = losses(self.model, *candidates)
        with self.one_step_ahead(x, y) as model:
            increase = losses(model, *candidates) - before
        return most(increase, *candidates)

    def gmed(self, x: Tensor, y: Tensor) -> Samples:
        slots = self.memory.draw(BATCH_SIZE)
        self.memory.x[slots] = edited = self.edited(x, y, *self.memory.fetch(slots))
        return edited, self.memory.y[slots]

    def edited(self, x: Tensor, y: Tensor, memory_x: Tensor, memory_y: Tensor) -> Tensor:
        now = gradient_in_x(self.model, memory_x, memory_y)
        with self.one_step_ahead(x, y) as model:
            ahead = gradient_in_x(model, memory_x, memory_y)
        return moved(memory_x, now, ahead)

    def mir_gmed(self, x: Tensor, y: Tensor) -> Samples:
        candidates = self.memory.fetch(self.memory.draw(N_CANDIDATES))
        slots = self.memory.draw(BATCH_SIZE, self.rng_of_edits)
        samples = self.memory.fetch(slots)
        before, now = losses(self.model, *candidates), gradient_in_x(self.model, *samples)
        with self.one_step_ahead(x, y) as model:
            increase = losses(model, *candidates) - before
            ahead = gradient_in_x(model, *samples)
        self.memory.x[slots] = moved(samples[0], now, ahead)
        return most(increase, *candidates)

    @contextmanager
    def one_step_ahead(self, x: Tensor, y: Tensor) -> Iterator[Model]:
        gradients = torch.autograd.grad(cross_entropy(self.model(x), y), self.parameters)
        self.stream_gradients = gradients
        own = [p.data for p in self.parameters]
        ahead = [p - LR * g for p, g in zip(own, gradients, strict=True)]
        if self.way == "functional":
            yield partial(functional_call, self.model, dict(zip(self.names, ahead, strict=True)))
            return
        self.put(ahead)
        yield self.model
        self.put(own)

    def put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.data = value


def losses(model: Model, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return cross_entropy(model(x), y, reduction="none")


def gradient_in_x(model: Model, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model(x), y), x)
    return gradient


def moved(x: Tensor, now: Tensor, ahead: Tensor) -> Tensor:
    return x + EDIT["stride"] * (ahead - (1 + EDIT["reg_strength"]) * now)


def most(increase: Tensor, x: Tensor, y: Tensor) -> Samples:
    rows = increase.topk(min(BATCH_SIZE, len(y))).indices
    return x[rows], y[rows]
