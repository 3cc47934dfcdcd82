"""Models to look one step ahead of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tests.functional.model.gradient_cases import (
    LINEAR_MODELS,
    N_CLASSES,
    Heads,
    PerPosition,
    convolutional,
    made,
    mlp,
    samples,
)
from tests.oracles import Array

Group = tuple[list[Tensor], Tensor]
"""The inputs of a model and labels, (n,)."""


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(6, n) for n in (6, 6, N_CLASSES))
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Autoencoding(nn.Module):
    """Uses the weight of a layer once more, transposed and past the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(6, 8), nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.hidden(x))
        return self.last(torch.tanh(linear(h, self.hidden.weight.T)))


class Called(nn.Module):
    """Calls its linear layers in one way or another."""

    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.call = nn.Linear(6, 8), nn.Linear(8, N_CLASSES), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.last, torch.tanh(self.call(self.first, x)))


class OfAConstant(nn.Module):
    """Moves its outputs by what a layer makes of some rows that are the same for all samples."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.layer, self.shift = nn.Linear(6, N_CLASSES), nn.Linear(3, N_CLASSES)
        self.register_buffer("constant", torch.linspace(-1, 1, 3 * n_rows).view(n_rows, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.shift(self.constant).mean(0)


class Mixing(nn.Module):
    """Centres a hidden layer over the batch, outside of any module."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(6, 8), nn.Linear(8, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.last(torch.tanh(h - h.mean(0)))


class Standardised(nn.Linear):
    """A linear layer by its class, not by what it does."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)


class ByTask(nn.Module):
    """A head for each task label."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 8)
        self.heads = nn.ModuleList([nn.Linear(8, N_CLASSES) for _ in range(3)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.relu(self.hidden(x))
        return torch.stack([self.heads[int(task)](row) for row, task in zip(h, t, strict=True)])


class Gated(nn.Module):
    """Scales its outputs by a parameter of its own where the first coordinate is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(6, N_CLASSES), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * torch.where(x[:, :1] < 0, self.scale, 1)


def tokens() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(24, N_CLASSES),
    )  # fmt: skip


def batch_normalised() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, N_CLASSES)
    )  # fmt: skip


def normalised_without_parameters() -> nn.Module:
    model = batch_normalised()
    model[1] = nn.BatchNorm1d(8, affine=False)
    return model


def frozen_convolution() -> nn.Module:
    model = convolutional()
    model[0].requires_grad_(False)
    return model


def batch_normalised_convolution() -> nn.Module:
    model = convolutional()
    model.insert(1, nn.BatchNorm2d(3))
    return model


def with_dropout(p: float) -> nn.Module:
    model = mlp()
    model.insert(2, nn.Dropout(p))
    return model


def with_attention() -> nn.Module:
    block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Linear(3, 4), block, nn.Flatten(), nn.Linear(16, N_CLASSES))


def one_by_one(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([layer(row) for row in x])


def positions_first(n: int) -> Callable[[nn.Module, Tensor], Tensor]:
    return lambda layer, x: layer(torch.stack([x + 0.1 * i for i in range(n)])).mean(0)


Shape = tuple[int, ...]
Case = tuple[Callable[[], nn.Module], Shape]
"""How a model is made, and the shape of a sample."""

MODELS: dict[str, Case] = {
    **{name: (make, (6,)) for name, make in LINEAR_MODELS.items()},
    "layers by position": (PerPosition, (6,)),
    "tokens": (tokens, (4, 3)),
    "heads by sample": (Heads, (6,)),
    "a frozen convolution": (frozen_convolution, (1, 6, 6)),
    "dropout of nothing": (lambda: with_dropout(0.0), (6,)),
    "a convolution": (convolutional, (1, 6, 6)),
    "batch normalisation": (batch_normalised, (6,)),
    "normalisation without parameters": (normalised_without_parameters, (6,)),
    "batch normalisation and convolution": (batch_normalised_convolution, (1, 6, 6)),
    "attention": (with_attention, (4, 3)),
    "a parameter of its own": (Gated, (6,)),
    "a shared weight": (Tied, (6,)),
    "a weight used past its layer": (Autoencoding, (6,)),
    "samples mixed by the model": (Mixing, (6,)),
    "a layer that standardises its weight": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Standardised(8, N_CLASSES)),
        (6,),
    ),
    "two positions before samples": (lambda: Called(positions_first(2)), (6,)),
    "three positions before samples": (lambda: Called(positions_first(3)), (6,)),
    "one position before samples": (lambda: Called(positions_first(1)), (6,)),
    "sample by sample": (lambda: Called(one_by_one), (6,)),
    "a layer of two constant rows": (lambda: OfAConstant(2), (6,)),
    "a layer of one constant row": (lambda: OfAConstant(1), (6,)),
}


def case(name: str, n: int = 11, n_stream: int = 9) -> tuple[nn.Module, Group, Group]:
    """The model of this name, n samples and n_stream of the stream."""
    make, shape = MODELS[name]
    (x, y), (stream_x, stream_y) = samples(n, 1, shape), samples(n_stream, 2, shape)
    return made(make), ([x], y), ([stream_x], stream_y)


def network(n_classes: int, seed: int) -> tuple[nn.Module, list[Array]]:
    """Three inputs, four hidden units, and the same as the oracles want it."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, n_classes)).double()
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = torch.from_numpy(rng.normal(size=tuple(p.shape)))
    return model, [p.detach().numpy().copy() for p in model.parameters()]
