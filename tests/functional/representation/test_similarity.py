"""Largest cosines of gradients."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from avalanche_ext.buffers import GreedyBuffer
from avalanche_ext.functional.representation.similarity import GradientSimilarity, max_cosine
from tests.functional.model.gradient_cases import (
    LINEAR_MODELS,
    N_CLASSES,
    PerPosition,
    convolutional,
    made,
    mlp,
    samples,
)
from tests.oracles import max_cosines_by_loops

SIZES, REFERENCE_SIZES = [1, 5, 1, 2], [4, 4, 3]
WEIGHTED = nn.CrossEntropyLoss(torch.arange(1.0, N_CLASSES + 1, dtype=torch.float64))


class Tied(nn.Module):
    """A weight that is also used outside the layer that owns it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, N_CLASSES)

    def forward(self, x):
        return self.last(torch.tanh(linear(torch.tanh(self.first(x)), self.first.weight)))


def normalised():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(48, N_CLASSES),
    )  # fmt: skip


OTHER_MODELS = {
    "rows of positions": (PerPosition, (6,)),
    "a weight used twice": (Tied, (6,)),
    "convolutions": (convolutional, (1, 6, 6)),
    "batch normalisation and dropout": (normalised, (1, 6, 6)),
}
MODELS = {name: (make, (6,)) for name, make in LINEAR_MODELS.items()} | OTHER_MODELS


def groups(sizes, seed, shape=(6,)):
    x, y = samples(sum(sizes), seed, shape)
    return [([part], labels) for part, labels in zip(x.split(sizes), y.split(sizes), strict=True)]


def gradients_by_backward(model, criterion, parts):
    """Of each group, by a model in eval mode that is alone."""
    rows = []
    for (x,), y in parts:
        alone = deepcopy(model).eval()
        alone.zero_grad(set_to_none=True)
        criterion(alone(x), y).backward()
        pieces = [
            torch.zeros_like(p) if p.grad is None else p.grad
            for p in alone.parameters()
            if p.requires_grad
        ]
        rows.append(torch.cat([piece.flatten() for piece in pieces]))
    return [row.tolist() for row in rows]


@pytest.mark.parametrize("criterion", [cross_entropy, WEIGHTED], ids=["plain", "weighted"])
@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_cosines_are_those_of_plain_gradients(make, shape, criterion):
    model = made(make)
    references, others = groups(REFERENCE_SIZES, 1, shape), groups(SIZES, 2, shape)
    similarity = GradientSimilarity(model, criterion)
    expected = max_cosines_by_loops(
        gradients_by_backward(model, criterion, others),
        gradients_by_backward(model, criterion, references),
    )
    for _ in range(2):
        found = similarity.references(references).max_cosines(others)
        np.testing.assert_allclose(found.tolist(), expected, rtol=0, atol=1e-12)


def test_all_groups_run_in_one_pass_of_a_model_of_linear_layers_and_one_by_one_of_others():
    for make, shape, expected in ((mlp, (6,), 1), (convolutional, (1, 6, 6), len(SIZES))):
        model, calls = made(make), []
        references = GradientSimilarity(model, cross_entropy).references(groups([3], 1, shape))
        model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        references.max_cosines(groups(SIZES, 2, shape))
        assert len(calls) == expected


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e8])
def test_linear_layers_are_recognised_in_single_precision_at_any_scale(scale):
    model, calls = made(mlp, torch.float32), []
    parts = [([x.float()], y) for (x,), y in groups([20, 30], 1)]
    similarity = GradientSimilarity(model, lambda outputs, y: scale * cross_entropy(outputs, y))
    references = similarity.references(parts)
    model.register_forward_hook(lambda *_: calls.append(1))
    found = references.max_cosines(parts)
    assert calls == [1]
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [mlp, convolutional, normalised])
def test_nothing_of_the_model_or_the_generators_changes(make):
    model = made(make)
    shape = (6,) if make is mlp else (1, 6, 6)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[0].eval()
    before = deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    similarity = GradientSimilarity(model, cross_entropy)
    similarity.references(groups([3, 2], 1, shape)).max_cosines(groups([1], 2, shape))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[-1].weight.grad is None


@pytest.mark.parametrize("make", [mlp, convolutional])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_gradients_that_are_zero_or_not_finite_are_like_no_other(make, value):
    shape = (6,) if make is mlp else (1, 6, 6)

    def criterion(outputs, y):
        return cross_entropy(outputs, y) if y[0] else value * outputs.sum()

    (x,), _ = groups([1], 2, shape)[0]
    vanishing, plain = ([x], torch.tensor([0])), ([x], torch.tensor([1]))
    similarity = GradientSimilarity(made(make), criterion)
    assert similarity.references([plain]).max_cosines([vanishing, plain]).tolist() == (
        pytest.approx([0, 1])
    )
    assert similarity.references([vanishing]).max_cosines([plain]).tolist() == [0]


def test_a_model_is_known_as_long_as_its_parameters_are_the_same():
    model = mlp()
    similarity = GradientSimilarity(model, cross_entropy)
    assert similarity.is_of(model, cross_entropy)
    assert not similarity.is_of(mlp(), cross_entropy)
    assert not similarity.is_of(model, WEIGHTED)
    model[-1] = nn.Linear(7, 9)
    assert not similarity.is_of(model, cross_entropy)


@pytest.mark.parametrize("n_references", [1, 4])
def test_max_cosine_is_that_of_loops(n_references):
    rng = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 9, generator=rng, dtype=torch.float64)
    references = torch.randn(n_references, 9, generator=rng, dtype=torch.float64)
    gradients[2] = 0
    references[0, :8] = 0
    expected = max_cosines_by_loops(gradients.tolist(), references.tolist())
    found = max_cosine(gradients, references)
    np.testing.assert_allclose(found.tolist(), expected, rtol=0, atol=1e-14)
    rescaled = max_cosine(1e4 * gradients, 1e-3 * references)
    np.testing.assert_allclose(rescaled.tolist(), expected, rtol=0, atol=1e-14)


def test_a_zero_reference_outdoes_negative_cosines():
    gradients, references = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    assert max_cosine(gradients, references[:1]).tolist() == [-1]
    assert max_cosine(gradients, references).tolist() == [0]


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_takes_no_cosine_beyond_one(sign):
    rows = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    found = torch.cat([max_cosine(row[None], sign * row[None]) for row in rows])
    torch.testing.assert_close(found, torch.full((200,), float(sign)))
    buffer, labels = GreedyBuffer(300), torch.zeros(200, dtype=torch.int64)
    buffer.add(rows[:1], labels[:1], labels[:1])
    assert (buffer.add(rows, labels, labels, scores=found.tolist()) >= 0).all()
