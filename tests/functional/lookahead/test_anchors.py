import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from avalanche_ext.functional.lookahead.anchors import (
    Rates,
    anchoring_loss,
    hindsight_parameters,
    learn_anchors,
    rescaled,
    update_means,
    update_sums,
)
from tests.oracles import (
    anchor_by_loops,
    anchoring_loss_by_loops,
    sgd_step_by_loops,
)

RATES = [0.5, 0.2, 0.3, 0.7]


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def network(seed: int = 0) -> nn.Sequential:
    """Three inputs, four hidden units, three outputs, in float64."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    for i, p in enumerate(model.parameters()):
        p.data = draw(*p.shape, seed=seed + i)
    return model


def arrays(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def rates_of(model: nn.Module) -> Rates:
    return dict(zip(model.parameters(), RATES, strict=True))


@pytest.mark.parametrize(("n_anchors", "n_samples"), [(4, 5), (1, 5), (4, 1), (1, 1)])
def test_anchoring_loss_and_its_gradient_equal_loops(n_anchors, n_samples):
    model, anchors, x = network(), draw(n_anchors, 3, seed=7), draw(n_samples, 3, seed=8)
    y = torch.arange(n_samples) % 3
    loss = anchoring_loss(model, [anchors], cross_entropy(model(x), y), rates_of(model))

    def expected(at: list[np.ndarray]) -> float:
        return anchoring_loss_by_loops(at, anchors.numpy(), x.numpy(), y.tolist(), RATES)

    assert loss.item() == pytest.approx(expected(arrays(model)), rel=1e-12)
    loss.backward()
    at, step = arrays(model), 1e-6
    for array, p in zip(at, model.parameters(), strict=True):
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + step
            gradient[index] = expected(at)
            array[index] = value - step
            gradient[index] = (gradient[index] - expected(at)) / (2 * step)
            array[index] = value
        np.testing.assert_allclose(p.grad.numpy(), gradient, rtol=1e-6, atol=1e-8)


def test_no_anchors_is_zero_with_zero_gradient():
    model = network()
    loss = cross_entropy(model(draw(5, 3)), torch.tensor([0, 1, 2, 0, 1]))
    anchoring = anchoring_loss(model, [draw(0, 3)], loss, rates_of(model))
    anchoring.backward()
    assert anchoring.item() == 0
    assert not any(p.grad.any() for p in model.parameters())


def test_a_loss_without_gradient_moves_nothing():
    model = network()
    anchoring = anchoring_loss(model, [draw(2, 3)], 0 * model(draw(5, 3)).sum(), rates_of(model))
    anchoring.backward()
    assert anchoring.item() == 0
    assert not any(p.grad.any() for p in model.parameters())


def test_parameters_without_a_rate_stay_where_they_are():
    model, x, y = network(), draw(5, 3), torch.tensor([0, 1, 2, 0, 1])
    rates, theta = dict.fromkeys(model[2].parameters(), 0.5), arrays(model)
    loss = anchoring_loss(model, [x], cross_entropy(model(x), y), rates)
    expected = anchoring_loss_by_loops(theta, x.numpy(), x.numpy(), y.tolist(), [0, 0, 0.5, 0.5])
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    hindsight = hindsight_parameters(model, [([x], y)], rates)
    assert torch.equal(hindsight["0.weight"], model[0].weight)
    assert not torch.equal(hindsight["2.weight"], model[2].weight)


def test_hindsight_steps_equal_loops():
    model = network()
    batches = [(draw(n, 3, seed=n), torch.arange(n) % 3) for n in (5, 1, 3)]
    hindsight = hindsight_parameters(model, [([x], y) for x, y in batches], rates_of(model))
    expected = arrays(model)
    for x, y in batches:
        expected = sgd_step_by_loops(expected, x.numpy(), y.tolist(), RATES)
    for found, array in zip(hindsight.values(), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), array, rtol=1e-12)


def test_no_hindsight_steps_lead_nowhere():
    model = network()
    hindsight = hindsight_parameters(model, [], rates_of(model))
    assert all(torch.equal(hindsight[name], p) for name, p in model.named_parameters())


def learned(start: Tensor, y: Tensor, embeddings: Tensor, later: nn.Module, **given: Any) -> Tensor:
    model = network()
    arguments = {"n_steps": 20, "lr": 0.05, "embedding_weight": 0.4, **given}
    hindsight = {name: p.detach() for name, p in later.named_parameters()}
    return learn_anchors(model, model[2], hindsight, [start], y, embeddings, **arguments)


class SquaredError(nn.MSELoss):
    """Of outputs and one-hot labels, (B, C) without reduction."""

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().forward(outputs, nn.functional.one_hot(y, outputs.shape[1]).to(outputs))


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(label_smoothing=0.3),
        nn.CrossEntropyLoss(label_smoothing=0.3, reduction="sum"),
        partial(cross_entropy, label_smoothing=0.3),
        SquaredError(),
        SquaredError(reduction="sum"),
    ],
    ids=["smoothed", "smoothed sum", "smoothed function", "squares", "sum of squares"],
)
def test_anchors_lower_the_given_criterion_each_by_itself(criterion: Any):
    later, now, y = network(seed=20), network(), torch.tensor([0, 2, 1])
    start, embeddings = draw(3, 3, seed=5), draw(3, 4, seed=6)
    anchors = learned(start, y, embeddings, later, criterion=criterion)
    for row in range(3):
        anchor = start[row : row + 1].clone().requires_grad_()
        adam = torch.optim.Adam([anchor], lr=0.05)
        for _ in range(20):
            adam.zero_grad()
            label, embedding = y[row : row + 1], embeddings[row : row + 1]
            cosine = nn.functional.cosine_similarity(now[:2](anchor), embedding)
            objective = criterion(now(anchor), label) - criterion(later(anchor), label)
            (objective + 0.4 * (1 - cosine).sum()).backward()
            adam.step()
        torch.testing.assert_close(anchors[row : row + 1], anchor.detach())
    assert not torch.allclose(anchors, learned(start, y, embeddings, later))


@pytest.mark.parametrize("labels", [[0, 2, 1], [1, 1, 1], [2]])
def test_anchors_equal_loops_over_them(labels):
    n, later = len(labels), network(seed=20)
    start, embeddings = draw(n, 3, seed=5), draw(n, 4, seed=6)
    anchors = learned(start, torch.tensor(labels), embeddings, later)
    for row, label in enumerate(labels):
        expected = anchor_by_loops(
            arrays(network()),
            arrays(later),
            start[row].numpy(),
            label,
            embeddings[row].numpy(),
            n_steps=20,
            lr=0.05,
            embedding_weight=0.4,
        )
        np.testing.assert_allclose(anchors[row].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_an_objective_without_gradient_leaves_anchors_where_they_start():
    start, y = draw(2, 3), torch.tensor([0, 1])
    anchors = learned(start, y, draw(2, 4), later=network(), embedding_weight=0.0)
    assert torch.equal(anchors, start)


def test_an_embedding_of_zeros_gives_finite_anchors():
    start, y = draw(2, 3), torch.tensor([0, 1])
    anchors = learned(start, y, torch.zeros(2, 4, dtype=torch.float64), later=network(seed=20))
    assert torch.isfinite(anchors).all()
    assert not torch.equal(anchors, start)


def test_no_classes_no_anchors():
    y = torch.zeros(0, dtype=torch.int64)
    assert learned(draw(0, 3), y, draw(0, 4), later=network(seed=20)).shape == (0, 3)


class Noisy(nn.Module):
    """Batch normalisation, dropout, and noise that evaluation mode does not switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.body = network()
        self.norm.double()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.body(self.drop(self.norm(dropout(x, 0.1))))
        return outputs


def anchoring(model: Noisy, x: Tensor, y: Tensor) -> None:
    rates = dict.fromkeys(model.parameters(), 0.1)
    loss = cross_entropy(model.body(x), y)
    anchoring_loss(model, [x], loss, rates)


def hindsight(model: Noisy, x: Tensor, y: Tensor) -> None:
    hindsight_parameters(model, [([x], y)] * 2, dict.fromkeys(model.parameters(), 0.1))


def anchors(model: Noisy, x: Tensor, y: Tensor) -> None:
    later = {name: p.detach() + 0.1 for name, p in model.named_parameters()}
    settings = {"n_steps": 2, "lr": 0.1, "embedding_weight": 0.1}
    learn_anchors(model, model.body[2], later, [x], y, draw(len(x), 4), **settings)


@pytest.mark.parametrize("function", [anchoring, hindsight, anchors])
def test_the_model_and_the_generators_are_left_as_they_were(
    function: Callable[[Noisy, Tensor, Tensor], None],
):
    model = Noisy()
    model.train()
    model.drop.eval()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    function(model, draw(4, 3), torch.tensor([0, 1, 2, 1]))
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert model.norm.training
    assert not model.drop.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_batch_normalisation_uses_its_running_statistics():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).double()
    model[0].running_mean.copy_(draw(3))
    x, y = draw(4, 3), torch.tensor([0, 1, 2, 1])
    rates = dict.fromkeys(model.parameters(), 0.1)
    loss = cross_entropy(model(x), y)
    together = anchoring_loss(model, [x], loss, rates)
    alone = torch.stack([anchoring_loss(model, [row[None]], loss, rates) for row in x])
    torch.testing.assert_close(together, alone.mean())


def test_running_means_by_hand():
    means: dict[tuple[int, int], Tensor] = {}
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    update_means(means, [(0, 1), (0, 1), (0, 2)], rows, 0.9)
    assert means[0, 1].tolist() == [2.0, 3.0]
    assert means[0, 2].tolist() == [10.0, 20.0]
    update_means(means, [(0, 1)], torch.tensor([[12.0, -7.0]]), 0.9)
    torch.testing.assert_close(means[0, 1], torch.tensor([3.0, 2.0]))
    assert means[0, 2].tolist() == [10.0, 20.0]


def test_running_sums_by_hand():
    sums: dict[tuple[int, int], Tensor] = {}
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    update_sums(sums, [(0, 1), (0, 1), (0, 2)], rows, 0.75)
    assert sums[0, 1].tolist() == [1.0, 1.5]
    assert sums[0, 2].tolist() == [2.5, 5.0]
    update_sums(sums, [(0, 1)], torch.tensor([[3.0, -0.5]]), 0.75)
    assert sums[0, 1].tolist() == [1.5, 1.0]
    assert sums[0, 2].tolist() == [2.5, 5.0]


def test_samples_are_rescaled_each_by_itself():
    samples = torch.tensor([[[-1.0, 1.0], [0.0, 3.0]], [[2.0, 2.0], [2.0, 2.0]]])
    expected = [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert rescaled(samples).tolist() == expected
    assert rescaled(samples[:0]).shape == (0, 2, 2)
