"""Terms and criteria for compiled losses, and a count of their calls."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from avalanche_ext.functional.compiled.loss import CompiledLoss, Evaluated
from avalanche_ext.plugins import RepresentationLossPlugin


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the size of each mini-batch that compiled code is called for."""
    sizes, call = [], CompiledLoss.__call__

    def counted(self: CompiledLoss, x: Tensor, y: Tensor) -> Evaluated:
        sizes.append(len(y))
        return call(self, x, y)

    monkeypatch.setattr(CompiledLoss, "__call__", counted)
    return sizes


class Squared(RepresentationLossPlugin):
    """A loss of the user's that compiled code may contain, as it says."""

    reads_graph = False

    def __init__(self) -> None:
        super().__init__(0.1)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        return self.loss_at(representations, labels, *self.loss_tensors(labels))

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        return (self.scale,)

    def loss_at(self, representations, labels, scale):
        return sum((rows - scale).square().mean() for rows in representations)

    def loss_parameters(self) -> list[nn.Parameter]:
        return [self.scale]


class Forgetful(Squared):
    """Says that its loss is pure, but reads what is trained elsewhere."""

    reads_graph = False

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        return ()

    def loss_at(self, representations, labels):
        return super().loss_at(representations, labels, self.scale)


class Scaled(nn.CrossEntropyLoss):
    """A criterion whose scale is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().forward(self.scale * outputs, labels)
