"""Hindsight anchor learning in a strategy, beside the same done step by step."""

import copy

import pytest
import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import HALPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, quiet, small_model, weights


class Watch(Spy):
    """Keeps the model and the samples of each iteration, and the stream's rows' embeddings."""

    def __init__(self, plugin: OnlineReplayPlugin) -> None:
        super().__init__()
        self.plugin = plugin
        self.theta: list[list[Tensor]] = []
        self.stream: list[tuple[Tensor, Tensor, Tensor]] = []
        self.drawn: list[list[Tensor]] = []

    def before_forward(self, strategy, **kwargs):
        self.theta.append([p.detach().clone() for p in strategy.model.parameters()])
        x, y = (column[: self.plugin.n_stream] for column in strategy.mbatch[:2])
        self.stream.append((x, y, strategy.model.hidden(x.flatten(1)).detach()))
        slots = self.plugin.slots
        self.drawn.append(self.plugin.buffer.fetch(slots) if len(slots) else [])


def running_means(stream: list[tuple[Tensor, Tensor, Tensor]], label: int) -> tuple[Tensor, Tensor]:
    image = embedding = None
    for x, y, phi in stream:
        rows = y == label
        if rows.any():
            new = x[rows].mean(0), phi[rows].mean(0)
            image = new[0] if image is None else 0.9 * image + 0.1 * new[0]
            embedding = new[1] if embedding is None else 0.9 * embedding + 0.1 * new[1]
    return image, embedding


def two_rates(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(
        [
            {"params": model.hidden.parameters()},
            {"params": model.classifier.parameters(), "lr": 0.2},
        ],
        lr=0.05,
    )


@pytest.mark.parametrize("scenario", ["class", "task"])
def test_anchors_equal_an_explicit_loop(scenario):
    plugin = HALPlugin(mem_size=30, embedding_weight=0.5, seed=2)
    watch, heads = Watch(plugin), scenario == "task"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mlp([32, 16], multi_head=heads, input_shape=(1, 8, 8), n_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05) if heads else two_rates(model)
        strategy = quiet(model=model, optimizer=optimizer, plugins=[plugin, watch])
        first, second, third, *_ = digits(train_size=60, scenario=scenario).train_stream
        strategy.train(first, eval_streams=[])
        n = len(watch.stream)
        strategy.train(second, eval_streams=[])
        stream = watch.stream[n:]
        memory, now, later = (copy.deepcopy(it) for it in (plugin.buffer, model, model))
        strategy.train(third, eval_streams=[])

    sgd = torch.optim.SGD(later.parameters(), lr=0.05) if heads else two_rates(later)
    for _ in range(50):
        x, y, t = memory.sample(10)
        sgd.zero_grad()
        cross_entropy(avalanche_forward(later, x, t), y).backward()
        sgd.step()
    for anchor, label, task in [*zip(*plugin.anchors, strict=True)][2:]:
        image, embedding = running_means(stream, int(label))
        e, y, t = image[None].clone().requires_grad_(), label[None], task[None]
        adam = torch.optim.Adam([e], lr=0.001)
        for _ in range(100):
            adam.zero_grad()
            objective = cross_entropy(avalanche_forward(now, e, t), y)
            objective = objective - cross_entropy(avalanche_forward(later, e, t), y)
            phi = now.hidden(e.flatten(1))
            (objective - 0.5 * cosine_similarity(phi, embedding[None])[0]).backward()
            adam.step()
        assert (e[0] - image).abs().max() > 0.01
        torch.testing.assert_close(anchor, e.detach()[0], rtol=1e-3, atol=1e-4)
    assert plugin.anchors[1].tolist() == ([0, 1, 0, 1] if heads else [0, 1, 2, 3])
    assert plugin.anchors[2].tolist() == ([0, 0, 1, 1] if heads else [0, 0, 0, 0])


def outputs_of(theta: list[Tensor], x: Tensor) -> Tensor:
    *hidden, w, b = theta
    h = x.flatten(1)
    for layer in range(0, len(hidden), 2):
        h = torch.relu(h @ hidden[layer].T + hidden[layer + 1])
    return h @ w.T + b


@pytest.mark.parametrize("loss", ["union", "sum", "separate"])
def test_weights_equal_an_explicit_loop(loss):
    plugin = HALPlugin(mem_size=30, batch_size=7, lam=2.0, loss=loss)
    watch, model = Watch(plugin), small_model()
    strategy = quiet(model=model, optimizer=two_rates(model), plugins=[plugin, watch])
    first, second, *_ = digits(train_size=65).train_stream
    strategy.train(first, eval_streams=[])
    n = len(watch.theta)
    strategy.train(second, eval_streams=[])

    x_anchors = plugin.anchors[0]
    theta = [p.clone().requires_grad_() for p in watch.theta[n]]
    rates = [0.05] * (len(theta) - 2) + [0.2] * 2
    anchoring = []
    for i in range(n, len(watch.theta)):
        for p, expected in zip(theta, watch.theta[i], strict=True):
            torch.testing.assert_close(p.detach(), expected, rtol=1e-4, atol=1e-5)
        (x, y, _), (drawn_x, drawn_y, _) = watch.stream[i], watch.drawn[i]
        z, drawn_z = outputs_of(theta, x), outputs_of(theta, drawn_x)
        value = cross_entropy(z, y) + cross_entropy(drawn_z, drawn_y)
        if loss == "union":
            value = cross_entropy(torch.cat([z, drawn_z]), torch.cat([y, drawn_y]))
        gradients = torch.autograd.grad(value, theta, create_graph=True)
        ahead = [p - rate * g for p, rate, g in zip(theta, rates, gradients, strict=True)]
        moved = outputs_of(theta, x_anchors) - outputs_of(ahead, x_anchors)
        anchoring.append(moved.square().sum(1).mean())
        total = torch.autograd.grad(value + 2.0 * anchoring[-1], theta)
        theta = [
            (p - rate * g).detach().requires_grad_()
            for p, rate, g in zip(theta, rates, total, strict=True)
        ]
    final = torch.cat([p.detach().flatten() for p in theta])
    torch.testing.assert_close(weights(strategy), final, rtol=1e-4, atol=1e-5)
    assert len(anchoring) == 7
    assert plugin.diagnostics() == {
        "hal/anchors": 2.0,
        "hal/anchoring": pytest.approx(torch.stack(anchoring).mean().item(), rel=1e-3),
    }
