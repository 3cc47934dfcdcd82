"""What A-GEM draws and the step it takes, watched from outside the plugin."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from tests.cases import weights
from tests.oracles import agem_projection_by_loops


class Sample(NamedTuple):
    """Which sample of a benchmark it is."""

    task: int
    row: int
    label: int


class Samples:
    """Identifies samples of a benchmark by their pixels."""

    def __init__(self, benchmark: Any) -> None:
        self._known: dict[bytes, Sample] = {}
        for task, experience in enumerate(benchmark.train_stream):
            x, y, _ = experience.dataset.fetch(slice(None))
            for row, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
                self._known[image.numpy().tobytes()] = Sample(task, row, label)

    def of(self, x: Tensor) -> list[Sample]:
        return [self._known[image.numpy().tobytes()] for image in x]


class Watch(SupervisedPlugin):
    """Keeps what arrives, and what the model is called with in each iteration of training.

    List it before the plugins whose batches it shall see.
    """

    def __init__(self, benchmark: Any) -> None:
        super().__init__()
        self.samples = Samples(benchmark)
        self.tasks: list[int] = []
        self.arrived: list[list[Sample]] = []
        self.calls: list[list[tuple[Tensor, ...]]] = []

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.tasks.append(strategy.experience.current_experience)
        self.arrived.append(self.samples.of(strategy.mb_x))
        self.calls.append([])
        self._handle = strategy.model.register_forward_pre_hook(
            lambda model, inputs: self.calls[-1].append(inputs)
        )

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        self._handle.remove()

    @property
    def batches(self) -> list[list[Sample]]:
        """What each step was on."""
        return [self.samples.of(calls[0][0]) for calls in self.calls]

    @property
    def references(self) -> list[list[Sample]]:
        """What each reference gradient was of; nothing where there was none."""
        return [self.samples.of(calls[1][0]) if calls[1:] else [] for calls in self.calls]


class Expected(Watch):
    """Compares every step with the projection of gradients of its own, in double precision."""

    n_projected = n_free = 0

    def __init__(self, benchmark: Any, penalty: Any = None) -> None:
        super().__init__(benchmark)
        self.penalty = penalty

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        super().before_update(strategy)
        model, (batch, *references) = deepcopy(strategy.model), self.calls[-1]
        assert len(references) <= 1
        loss = self.loss(strategy, model, batch)
        if self.penalty:
            loss = loss + self.penalty(model)
        step = g = gradient(model, loss)
        if references:
            r = gradient(model, self.loss(strategy, model, references[0]))
            step = torch.tensor(agem_projection_by_loops(g.tolist(), r.tolist()), dtype=g.dtype)
            assert step @ r >= -1e-6 * step.norm() * r.norm()
        self.n_projected += not torch.equal(step, g)
        self.n_free += bool(references) and torch.equal(step, g)
        self.expected = weights(strategy).double() - strategy.optimizer.param_groups[0]["lr"] * step

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        learned = weights(strategy).double()
        tolerance = 1e-6 if weights(strategy).dtype == torch.float32 else 1e-12
        torch.testing.assert_close(learned, self.expected, atol=tolerance, rtol=tolerance)

    def loss(self, strategy: Any, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        labels = torch.tensor([sample.label for sample in self.samples.of(inputs[0])])
        t = inputs[1] if inputs[1:] else torch.zeros_like(labels)
        value: Tensor = strategy._criterion(avalanche_forward(model, inputs[0], t), labels)
        return value


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    """The gradient as one vector in double precision, zeros where the loss does not reach."""
    parameters = [*model.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pieces = [
        torch.zeros_like(p) if piece is None else piece
        for p, piece in zip(parameters, found, strict=True)
    ]
    return torch.cat([piece.flatten() for piece in pieces]).double()
