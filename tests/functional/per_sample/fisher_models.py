"""Small models of every kind, for gradients by sample."""

from __future__ import annotations

import torch
from avalanche.models import as_multitask
from avalanche.models.utils import avalanche_model_adaptation
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.parametrizations import weight_norm

from avalanche_ext.models import MLP
from tests.cases import digits

N_CLASSES = 4
N_TOKENS = 9


class Tokens(nn.Module):
    """Embeddings, of which one is for padding, and layers that see (N, T, F) or (N, F, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_TOKENS, 6, padding_idx=0)
        self.each = nn.Linear(6, 5)
        self.norm, self.root = nn.LayerNorm(5), nn.RMSNorm((5, 5))
        self.instance = nn.InstanceNorm1d(5, affine=True)
        self.along = nn.Conv1d(5, 3, 3, stride=2, padding=1, padding_mode="replicate")
        self.last = nn.Linear(9, N_CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.each(self.embedding(tokens))))
        h = self.instance(self.root(h).mT)
        return self.last(torch.tanh(self.along(h)).flatten(1))


class Recurrent(nn.Module):
    """A GRU between linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gru = nn.Linear(2, 3), nn.GRU(3, 4, batch_first=True)
        self.last = nn.Linear(4, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gru(self.first(x.view(-1, 3, 2)))[0][:, -1])


class Bare(nn.Module):
    """Parameters that no layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.scale = nn.Linear(6, N_CLASSES), nn.Parameter(torch.ones(N_CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(x)) * self.scale


class Tied(nn.Module):
    """Two layers with one weight, and one whose weight is also used by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.last = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(torch.tanh(self.first(x)))
        h = torch.tanh(self.third(torch.tanh(h)))
        return self.last(linear(h, self.third.weight))


class Repeating(nn.Module):
    """Layers of several kinds that run more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(N_TOKENS, 4, sparse=True)
        self.step, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.along = nn.Conv1d(4, 4, 3, padding="same", groups=2)
        self.last = nn.Linear(4, N_CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        along = self.along(torch.tanh(self.along(self.embedding(tokens).mT)))
        h = self.embedding(tokens[:, 0]) + along.mean(2)
        for _ in range(3):
            h = self.norm(torch.tanh(self.step(h)))
        return self.last(h)


class Folded(nn.Module):
    """Its first layer sees three rows of each sample, as if they were samples."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.last = nn.Linear(2, 4), nn.Linear(12, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.each(x.reshape(-1, 2))).view(len(x), 12))


class Routed(nn.Module):
    """Each sample runs through one of two layers, the second where a coordinate is large."""

    def __init__(self, coordinate: int, threshold: float) -> None:
        super().__init__()
        self.coordinate, self.threshold = coordinate, threshold
        self.experts = nn.ModuleList([nn.Linear(6, N_CLASSES) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), N_CLASSES)
        chosen = (x[:, self.coordinate] > self.threshold).long()
        for i, expert in enumerate(self.experts):
            if (chosen == i).any():
                out = out.index_put(((chosen == i).nonzero()[:, 0],), expert(x[chosen == i]))
        return out


class Late(nn.Module):
    """Layers that do not run for the first two samples, and share or reuse weights when they do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.late, self.tied = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.tied.weight = self.first.weight
        self.last = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, is_late = torch.tanh(self.first(x)), x[:, 1:2] > 1
        if is_late.any():
            late = linear(torch.tanh(self.late(h)), self.late.weight) + self.tied(h)
            h = torch.where(is_late, late, h)
        return self.last(h)


class Mixing(nn.Module):
    """What is put out for a sample depends on the others, unless it is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h + h.mean(0) ** 2)


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(5, 5, bias=False),
        nn.Tanh(), nn.Linear(5, N_CLASSES),
    )  # fmt: skip


def frozen() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.LayerNorm(5),
        nn.Linear(5, N_CLASSES),
    )  # fmt: skip
    for parameter in (*model[0].parameters(), model[2].weight, model[4].bias, model[5].bias):
        parameter.requires_grad_(False)
    return model


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 2)), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, (3, 2), dilation=(1, 2), padding="same", padding_mode="circular", groups=2),
        nn.GroupNorm(3, 6), nn.Tanh(), nn.Conv2d(6, 6, 2, groups=6), nn.InstanceNorm2d(6),
        nn.Conv2d(6, 3, 1, bias=False), nn.Flatten(), nn.BatchNorm1d(27), nn.Linear(27, N_CLASSES),
    )  # fmt: skip


def plain_convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 2), nn.GroupNorm(3, 6), nn.Tanh(), nn.Flatten(), nn.LayerNorm(24),
        nn.Linear(24, N_CLASSES),
    )  # fmt: skip


def volumetric() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 2, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 0)), nn.BatchNorm3d(2),
        nn.Tanh(), nn.Flatten(), nn.Linear(32, N_CLASSES),
    )  # fmt: skip


def parametrised() -> nn.Module:
    return nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.PReLU(5), nn.Linear(5, N_CLASSES))


def half_routed() -> nn.Module:
    model = Routed(1, 1.0)
    model.experts[1].requires_grad_(False)
    return model


def multi_head() -> nn.Module:
    """Avalanche's heads, one for each of three tasks of two digits."""
    model = as_multitask(MLP([7], input_shape=(1, 8, 8), n_classes=10), "classifier")
    for experience in digits(scenario="task").train_stream[:3]:
        avalanche_model_adaptation(model, experience)
    return model
