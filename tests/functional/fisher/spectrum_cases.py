"""Small models in double precision, with samples, of which the whole Fisher can be formed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.diagonal import FisherKind, fisher_rows
from tests.oracles.arrays import Array
from tests.oracles.spectrum import fisher_by_loops

N_SAMPLES, N_CLASSES = 9, 4


class Sequences(nn.Module):
    """Embeddings, normalisation and a linear layer at each of five positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.each, self.last = nn.Linear(4, 5), nn.Linear(5, N_CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        h = torch.tanh(self.each(self.norm(self.embedding(tokens))))
        return self.last(h.mean(1))


class Attention(nn.Module):
    """Self-attention over three positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        self.last = nn.Linear(6, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = x.view(-1, 3, 2)
        return self.last(self.attention(h, h, h, need_weights=False)[0].flatten(1))


class Heads(nn.Module):
    """A head for each of three tasks, the last of which never comes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 4)
        self.heads = nn.ModuleList([nn.Linear(4, N_CLASSES) for _ in range(3)])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        (task,) = t.unique().tolist()
        return self.heads[task](torch.tanh(self.hidden(x)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, N_CLASSES))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, N_CLASSES)
    )


def without_rule() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, N_CLASSES))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """The model in double precision with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


def samples(make: Callable[[], nn.Module], n: int = N_SAMPLES) -> tuple[Tensor, Tensor]:
    """Samples for the model, and labels."""
    rng = torch.Generator().manual_seed(1)
    y = torch.randint(N_CLASSES, (n,), generator=rng)
    if make is Sequences:
        return torch.randint(7, (n, 5), generator=rng), y
    shape = (1, 4, 4) if make is convolutional else (6,)
    return torch.randn(n, *shape, generator=rng, dtype=torch.float64), y


RULED = {"an mlp": mlp, "convolutions": convolutional, "embedded sequences": Sequences}
UNRULED = {"a layer without rule": without_rule, "attention": Attention}


def dense(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    kind: FisherKind,
    *,
    seed: int = 0,
    t: Tensor | None = None,
) -> Array:
    """The whole Fisher by loops; the drawn labels are inferred from what is propagated back."""
    modes = [module.training for module in model.modules()]
    model.eval()
    with torch.no_grad():
        alone = [
            model(x[n : n + 1]) if t is None else model(x[n : n + 1], t[n : n + 1])
            for n in range(len(x))
        ]
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    outputs = torch.cat(alone)
    if kind == "true":
        weights = outputs.softmax(1)
    else:
        rows = fisher_rows(kind, y, seed=seed)(outputs, torch.arange(len(x)))
        weights = nn.functional.one_hot(rows[0].argmax(1), outputs.shape[1])
    return fisher_by_loops(model, x, weights, t)


def assert_pairs(values: Tensor, vectors: Tensor, fisher: Array, rank: int) -> None:
    """Assert that these are the largest eigenpairs of a matrix, all of them that are positive."""
    expected = np.linalg.eigvalsh(fisher)[::-1][:rank]
    expected = expected[expected > 1e-12 * expected[0]]
    found, rows = values.numpy(), vectors.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12 * expected[0])
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(expected)), atol=1e-9)
    np.testing.assert_allclose(rows @ fisher, found[:, None] * rows, atol=1e-9 * expected[0])
