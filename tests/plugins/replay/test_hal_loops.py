"""Hindsight anchor learning in a strategy, compared with a step-by-step version."""

import copy

import numpy as np
import pytest
import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from avalanche_ext.buffers import uniform
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


class WholeBatches(Watch):
    """Keeps the samples and embeddings of whole mini-batches too."""

    def __init__(self, plugin: OnlineReplayPlugin) -> None:
        super().__init__(plugin)
        self.whole: list[tuple[Tensor, Tensor, Tensor]] = []

    def before_forward(self, strategy, **kwargs):
        super().before_forward(strategy, **kwargs)
        x, y = strategy.mbatch[:2]
        self.whole.append((x, y, strategy.model.hidden(x.flatten(1)).detach()))


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


def test_the_official_codes_settings_equal_an_explicit_loop():
    plugin = HALPlugin(
        size_per_class=2,
        batch_size=7,
        lam=2.0,
        replayed="earlier",
        n_anchors=10,
        first_anchors="last",
        rescale=True,
        hindsight_steps=5,
        anchor_steps=20,
        anchor_lr=0.01,
        means="from_zero",
        embedding_decay=0.5,
        seed=2,
    )
    watch, model = WholeBatches(plugin), small_model()
    strategy = quiet(model=model, optimizer=two_rates(model), plugins=[plugin, watch])
    first, second, third, *_ = digits("permuted", train_size=60).train_stream
    strategy.train(first, eval_streams=[])
    n = len(watch.whole)
    assert [len(y) for _, y, _ in watch.whole] == [10] * n
    strategy.train(second, eval_streams=[])
    assert [len(y) for _, y, _ in watch.whole[n:]] == [17] * (len(watch.whole) - n)
    memory, now, later = (copy.deepcopy(it) for it in (plugin.buffer, model, model))
    strategy.train(third, eval_streams=[])

    x, y, _ = (torch.cat(column) for column in zip(*watch.stream[:n], strict=True))
    for anchor, label in zip(plugin.anchors[0][:10], range(10), strict=True):
        assert torch.equal(anchor, x[y == label][-1])
        held = memory.fetch(np.array(memory.groups("task")[0]))
        assert torch.equal(held[0][held[1] == label], x[y == label][-2:])

    sgd = two_rates(later)
    for _ in range(5):
        slots = uniform({0: memory.groups("task")[0]}, 7, memory.rng, replacement=False)
        drawn_x, drawn_y, _ = memory.fetch(slots)
        sgd.zero_grad()
        cross_entropy(later(drawn_x), drawn_y).backward()
        sgd.step()
    for label in range(10):
        image, embedding = torch.zeros(1, 8, 8), torch.zeros(16)
        for x, y, _ in watch.stream[n : 2 * n]:
            for sample in x[y == label]:
                image = 0.9 * image + 0.1 * sample
        for _, y, phi in watch.whole[: 2 * n]:
            if (y == label).any():
                embedding = 0.5 * embedding + 0.5 * phi[y == label].sum(0)
        e, target = image[None].clone().requires_grad_(), torch.tensor([label])
        adam = torch.optim.Adam([e], lr=0.01)
        for _ in range(20):
            adam.zero_grad()
            objective = cross_entropy(now(e), target) - cross_entropy(later(e), target)
            cosine = cosine_similarity(now.hidden(e.flatten(1)), embedding[None])[0]
            (objective - 0.1 * cosine).backward()
            adam.step()
        e = e.detach()[0]
        expected = (e - e.min()) / (e.max() - e.min())
        torch.testing.assert_close(plugin.anchors[0][10 + label], expected, rtol=1e-3, atol=1e-4)
    assert plugin.anchors[1].tolist() == [*range(10)] * 2
