"""What the tests of MIR and GMED share: the plain answers, and a look at each iteration."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Columns = tuple[Tensor, Tensor, Tensor]


def stepped(model: nn.Module, columns: Columns, lr: float) -> nn.Module:
    """A copy of the model after a step of SGD."""
    ahead = deepcopy(model)
    x, y, t = columns
    optimizer = torch.optim.SGD(ahead.parameters(), lr=lr)
    optimizer.zero_grad()
    cross_entropy(avalanche_forward(ahead, x, t), y).backward()
    optimizer.step()
    return ahead


def edited(
    model: nn.Module, on: Columns, memory: Columns, lr: float, stride: float | Tensor, beta: float
) -> Tensor:
    """Jin, Du and Ren (2021), one edit of `memory` with a look-ahead on `on`."""
    ahead = stepped(model, on, lr)
    x, y, t = memory
    x = x.clone().requires_grad_()
    gradients = []
    for each in (model, ahead):
        loss = cross_entropy(avalanche_forward(deepcopy(each), x, t), y)
        gradients.append(torch.autograd.grad(loss, x)[0])
    now, then = gradients
    return x.detach() + stride * (then - now - beta * now)


class Before(SupervisedPlugin):
    """Records the state before a replay plugin acts; list it before that plugin."""

    def __init__(self, buffer: Any) -> None:
        super().__init__()
        self.buffer = buffer
        self.model: nn.Module | None = None
        self.memory: Tensor | None = None

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.model = deepcopy(strategy.model)
        self.memory = self.buffer.buffer.x.clone() if len(self.buffer) else None
        self.optimizer = deepcopy(strategy.optimizer.state_dict())
        self.random = torch.get_rng_state()
        self.training = strategy.model.training


class After(SupervisedPlugin):
    """List it after a replay plugin: calls `check(strategy)` while there is a memory."""

    def __init__(self, before: Before, check: Any) -> None:
        super().__init__()
        self.seen = before
        self.check = check
        self.n_checked = 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        if self.seen.memory is not None:
            self.check(strategy, self.seen)
            self.n_checked += 1


def convolutional() -> nn.Sequential:
    """A model with batch normalisation, always the same."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )
