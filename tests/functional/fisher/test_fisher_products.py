"""Products with Fishers against products with the dense matrix."""

import pytest
import torch
from torch import nn

from avalanche_ext.functional.fisher.diagonal import fisher_rows
from avalanche_ext.functional.fisher.products import FisherProducts
from avalanche_ext.functional.model.gradients import FlatLayout
from tests.functional.fisher.spectrum_cases import (
    N_CLASSES,
    RULED,
    UNRULED,
    Heads,
    dense,
    made,
    samples,
)


class Twice(torch.autograd.Function):
    """An operation that autograd differentiates, also twice, and torch.func does not."""

    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, N_CLASSES)

    def forward(self, x):
        return self.last(torch.tanh(Twice.apply(self.first(x))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.last = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, N_CLASSES)

    def forward(self, x):
        return self.last(self.recurrent(x.view(-1, 3, 2))[0][:, -1])


MODELS = RULED | UNRULED | {"an operation of one's own": Own, "recurrent": Recurrent}


def vectors_for(model):
    rng = torch.Generator().manual_seed(2)
    size = sum(p.numel() for p in model.parameters())
    return torch.randn(3, size, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("chunk_size", [None, 1, 4])
def test_products_are_those_of_the_whole_fisher(make, kind, chunk_size):
    model, (x, y) = made(make), samples(make)
    layout, rows = FlatLayout(model.named_parameters()), fisher_rows(kind, y)
    vectors = vectors_for(model)
    found = FisherProducts(model, layout, x, rows, chunk_size=chunk_size)(vectors)
    expected = vectors @ torch.from_numpy(dense(model, x, y, kind))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_heads_that_never_ran_have_no_part(chunk_size):
    model, (x, y) = made(Heads), samples(Heads)
    t = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 1])
    layout, rows = FlatLayout(model.named_parameters()), fisher_rows("sampled", y, seed=4)
    vectors = vectors_for(model)
    found = FisherProducts(model, layout, x, rows, t=t, chunk_size=chunk_size)(vectors)
    expected = vectors @ torch.from_numpy(dense(model, x, y, "sampled", t=t, seed=4))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not found[:, -5 * N_CLASSES :].any()
