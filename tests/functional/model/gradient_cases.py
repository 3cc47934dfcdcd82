"""Small models in double precision, samples, and gradients by plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.model.gradients import FlatLayout

Group = tuple[Tensor, Tensor]
"""Samples (n, 6) or (n, 1, 6, 6), and their labels, (n,)."""

N_CLASSES = 5


class Reused(nn.Module):
    """One hidden layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.again(torch.tanh(self.first(x)))
        return self.last(torch.tanh(self.again(torch.tanh(h))))


class Heads(nn.Module):
    """One head for odd and one for even groups, chosen by the sign of the first coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 4)
        self.heads = nn.ModuleList([nn.Linear(4, N_CLASSES) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.hidden(x))
        return self.heads[int(x[0, 0] > 0)](h)


class PerPosition(nn.Module):
    """A layer that sees three rows of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Linear(2, 4), nn.Linear(12, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.each(x.view(-1, 3, 2))).flatten(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 5))


def in_place() -> nn.Module:
    """Its activations overwrite what the layers before them have put out."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 7), nn.ReLU(inplace=True),
        nn.Linear(7, N_CLASSES),
    )  # fmt: skip


def bias_free() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, N_CLASSES, bias=False)
    )


def frozen_bias() -> nn.Module:
    model = mlp()
    for part in (model[0].bias, model[2].weight):
        part.requires_grad_(False)
    return model


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(),
        nn.Linear(8, N_CLASSES),
    )  # fmt: skip


LINEAR_MODELS: dict[str, Callable[[], nn.Module]] = {
    "an mlp": mlp,
    "activations in place": in_place,
    "no biases": bias_free,
    "frozen parts": frozen_bias,
    "a layer that runs twice": Reused,
}


def made(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().to(dtype)


def samples(n: int, seed: int = 0, shape: Sequence[int] = (6,)) -> Group:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=rng, dtype=torch.float64)
    return x, torch.randint(N_CLASSES, (n,), generator=rng)


def gradient(model: nn.Module, layout: FlatLayout, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean loss of a batch by `backward`, (P,), in the layout's order."""
    model.zero_grad(set_to_none=True)
    cross_entropy(model(x), y).backward()
    by_name = {name: p.grad for name, p in model.named_parameters()}
    pieces = [
        (torch.zeros_like(p) if by_name[name] is None else by_name[name]).flatten().clone()
        for name, p in zip(layout.names, layout.parameters, strict=True)
    ]
    return torch.cat(pieces)
