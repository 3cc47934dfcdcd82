"""Pulls with the rates of adaptive optimizers, and the warning about a useless penalty."""

import pickle
import warnings
from functools import partial

import pytest
import torch
from avalanche.core import SupervisedPlugin

from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.plugins import OnlineEWCPlugin
from avalanche_ext.plugins.consolidation import penalty
from avalanche_ext.plugins.consolidation.base import ConsolidationPlugin
from avalanche_ext.plugins.consolidation.rates import effective_rates
from tests.cases import weights
from tests.plugins.consolidation.consolidation_cases import (
    EACH,
    STRENGTH,
    dense,
    naive,
    run,
    three_tasks,
    tiny,
)

LR, B1, B2, ALPHA, EPS, MU, DAMPENING = 0.01, 0.8, 0.9, 0.95, 1e-4, 0.75, 0.5


def adam_loop(gradients):
    """Return Adam's step of each entry, and its rate, from all of its gradients so far."""
    m = v = 0.0
    for g in gradients:
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
    t = len(gradients)
    rate = LR / ((v / (1 - B2**t)) ** 0.5 + EPS)
    return -rate * m / (1 - B1**t), rate


def amsgrad_loop(gradients):
    m, v, top = 0.0, 0.0, torch.zeros(())
    for g in gradients:
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        top = torch.maximum(top, v)
    t = len(gradients)
    rate = LR / ((top / (1 - B2**t)) ** 0.5 + EPS)
    return -rate * m / (1 - B1**t), rate


def adamax_loop(gradients):
    m, u = 0.0, torch.zeros(())
    for g in gradients:
        m, u = B1 * m + (1 - B1) * g, torch.maximum(B2 * u, g.abs() + EPS)
    rate = LR / u
    return -rate * m / (1 - B1 ** len(gradients)), rate


def rmsprop_loop(gradients, centered=False):
    v = mean = 0.0
    for g in gradients:
        v, mean = ALPHA * v + (1 - ALPHA) * g * g, ALPHA * mean + (1 - ALPHA) * g
    rate = LR / ((v - mean * mean if centered else v) ** 0.5 + EPS)
    return -rate * gradients[-1], rate


def momentum_loop(gradients):
    """Each gradient moves an entry by (1 − d) LR, then by μ, μ², ... times as much."""
    first, *later = gradients
    v = first
    for g in later:
        v = MU * v + (1 - DAMPENING) * g
    return -LR * v, torch.full_like(first, LR * (1 - DAMPENING) * sum(MU**k for k in range(200)))


def rmsprop_with_momentum_loop(gradients):
    v = 0.0
    for n in range(1, len(gradients) + 1):
        step, rate = rmsprop_loop(gradients[:n])
        v = MU * v + step
    return v, rate * sum(MU**k for k in range(200))


def adagrad_loop(gradients):
    rate = LR / (1 + 0.1 * (len(gradients) - 1)) / (sum(g * g for g in gradients) ** 0.5 + EPS)
    return -rate * gradients[-1], rate


adam = {"lr": LR, "betas": (B1, B2), "eps": EPS}
rms = {"lr": LR, "alpha": ALPHA, "eps": EPS}
optim = torch.optim
OPTIMIZERS = {
    "Adam": (partial(optim.Adam, **adam), adam_loop),
    "AdamW": (partial(optim.AdamW, **adam, weight_decay=0.1), adam_loop),
    "amsgrad": (partial(optim.Adam, **adam, amsgrad=True), amsgrad_loop),
    "Adamax": (partial(optim.Adamax, **adam), adamax_loop),
    "RMSprop": (partial(optim.RMSprop, **rms), rmsprop_loop),
    "centered": (
        partial(optim.RMSprop, **rms, centered=True),
        partial(rmsprop_loop, centered=True),
    ),
    "momentum": (
        partial(optim.SGD, lr=LR, momentum=MU, dampening=DAMPENING),
        momentum_loop,
    ),
    "RMSprop with momentum": (
        partial(optim.RMSprop, **rms, momentum=MU),
        rmsprop_with_momentum_loop,
    ),
    "Adagrad": (partial(optim.Adagrad, lr=LR, lr_decay=0.1, eps=EPS), adagrad_loop),
}


class Fixed(ConsolidationPlugin):
    """Holds by the same matrix after every experience."""

    prefix = "fixed"
    reads_samples = False

    def __init__(self, lam, parts, scale=1.0):
        super().__init__(lam, 0.0, None, "proximal", None, "none", 0)
        self.parts, self.scale = parts, scale

    def _estimate(self, strategy, samples):
        theta = self._penalty.weights()
        generator = torch.Generator().manual_seed(5)
        draw = partial(torch.rand, dtype=theta.dtype, generator=generator)
        diagonal, vectors = draw(len(theta)), torch.linalg.qr(draw(len(theta), 3))[0].T
        if self.parts == "diagonal":
            return LowRankCurvature.of_diagonal(self.scale * diagonal)
        values = self.scale * torch.tensor([4.0, 2.0, 1.0], dtype=theta.dtype)
        return LowRankCurvature(diagonal if self.parts == "both" else None, values, vectors, 3)


class InDouble(SupervisedPlugin):
    """Hands the model its samples in float64."""

    def before_forward(self, strategy, **kwargs):
        strategy.mbatch[0] = strategy.mbatch[0].double()


class Loop(SupervisedPlugin):
    """Steps as the optimizer and the pull do, from the gradients alone; list it before the plugin.

    A pixel that is always black gives weights without any gradient.
    """

    def __init__(self, plugin, of_step, decay, refresh):
        super().__init__()
        self.plugin, self.of_step, self.decay, self.refresh = plugin, of_step, decay, refresh
        self.gradients, self.n_pulls, self.largest_rate, self.furthest = [], 0, 0.0, 0.0
        self.theta = None

    def after_backward(self, strategy, **kwargs):
        parameters = [*strategy.model.parameters()]
        self.gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
        self.theta = weights(strategy) if self.theta is None else self.theta
        step, rate = self.of_step(self.gradients)
        self.theta = self.theta * (1 - LR * self.decay) + step
        if self.plugin.curvature is not None:
            if self.n_pulls % self.refresh == 0:
                self.rate = rate
            self.n_pulls += 1
            self.largest_rate = max(self.largest_rate, float(rate.max()))
            system = self.plugin.lam * self.rate[:, None] * dense(self.plugin.curvature)
            delta = self.theta - self.plugin.anchor
            self.theta = self.plugin.anchor + torch.linalg.solve(
                torch.eye(len(delta), dtype=delta.dtype) + system, delta
            )

    def after_training_iteration(self, strategy, **kwargs):
        self.furthest = max(self.furthest, float((weights(strategy) - self.theta).abs().max()))

    def after_training_exp(self, strategy, **kwargs):
        self.n_pulls = 0


@pytest.mark.parametrize("parts", ["diagonal", "spectrum", "both"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_and_pull_are_those_of_a_plain_loop(name, parts, monkeypatch):
    make, of_step = OPTIMIZERS[name]
    refresh = 1 if parts == "diagonal" else 2
    monkeypatch.setattr(penalty, "_PULLS_AT_ONE_RATE", 2)
    plugin = Fixed(0.5, parts)
    loop = Loop(plugin, of_step, 0.1 if name == "AdamW" else 0.0, refresh)
    run(InDouble(), loop, plugin, model=tiny().double(), optimizer=make)
    assert len(loop.gradients) == 9
    if name not in ("AdamW", "momentum"):
        assert loop.largest_rate > 0.9 * LR / EPS / (1.2 if name == "Adagrad" else 1)
    assert loop.furthest < 1e-7


FIRM = {"online ewc": 10.0, "mas": 0.5, "si": 5000.0}
STEPPING = {
    "Adam": partial(optim.Adam, lr=0.001),
    "momentum": partial(optim.SGD, lr=0.002, momentum=0.9),
}


@pytest.mark.parametrize("optimizer", STEPPING)
@pytest.mark.parametrize("name", FIRM)
def test_it_holds_as_firmly_as_the_gradient_form(name, optimizer):
    moved = {}
    for update, lam in (("proximal", 0.0), ("proximal", 1.0), ("gradient", 1.0)):
        plugin = EACH[name](lam * 20 * FIRM[name], update=update)
        strategy = naive(plugin, optimizer=STEPPING[optimizer])
        first, second, _ = three_tasks(train_size=100).train_stream
        strategy.train(first, eval_streams=[], shuffle=False)
        start = weights(strategy)
        curvature = plugin.curvature
        strategy.train(second, eval_streams=[], shuffle=False)
        drift = weights(strategy) - start
        moved[update, lam] = float(curvature.penalty(drift))
    free, pulled, along = moved["proximal", 0.0], moved["proximal", 1.0], moved["gradient", 1.0]
    assert pulled < 0.5 * free
    assert pulled < 2 * along


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.5, True), (0.9, False), (0.9, True)]
)
def test_training_ends_where_the_penalty_balances_the_loss(momentum, nesterov):
    plugin = Fixed(3.0, "both")
    lr = 0.02 * (1 - momentum)
    optimizer = partial(optim.SGD, lr=lr, momentum=momentum, nesterov=nesterov)
    strategy = naive(InDouble(), plugin, model=tiny().double(), optimizer=optimizer)
    first, second, _ = three_tasks().train_stream
    strategy.train_mb_size = len(first.dataset)
    strategy.train(first, eval_streams=[])
    strategy.train_epochs = 1000
    curvature, anchor = plugin.curvature, plugin.anchor.clone()
    strategy.train(second, eval_streams=[])
    x, y = (torch.stack([torch.as_tensor(row[i]) for row in second.dataset]) for i in (0, 1))
    loss = torch.nn.functional.cross_entropy(strategy.model(x.double()), y)
    gradients = torch.autograd.grad(loss, [*strategy.model.parameters()])
    of_loss = torch.cat([g.flatten() for g in gradients])
    of_penalty = plugin.lam * curvature.product(weights(strategy) - anchor)
    # Where the curvature is small, training goes on much longer.
    assert 0.9 < -float(of_loss @ of_penalty) / float(of_loss @ of_loss) < 1.1


@pytest.mark.parametrize(("momentum", "rate"), [(0.0, 0.25), (0.5, 0.5), (0.75, 1.0)])
def test_under_sgd_the_rate_is_a_number(momentum, rate):
    strategy = run(optimizer=partial(torch.optim.SGD, lr=0.25, momentum=momentum))
    rates = effective_rates(strategy.optimizer)
    assert list(rates.values()) == [rate] * 4
    assert all(type(rate) is float for rate in rates.values())
    one_step = effective_rates(strategy.optimizer, with_momentum=False)
    assert list(one_step.values()) == [0.25] * 4


def test_a_parameter_without_a_step_has_the_learning_rate():
    model = tiny()
    assert [*effective_rates(torch.optim.Adam(model.parameters(), lr=0.3)).values()] == [0.3] * 4


@pytest.mark.parametrize("parts", ["diagonal", "both"])
def test_it_resumes_from_a_pickle_between_two_rates_as_if_nothing_had_happened(parts):
    results = []
    for again in (lambda it: it, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = Fixed(1.0, parts)
        strategy = naive(plugin, optimizer=partial(torch.optim.Adam, lr=0.01))
        first, second, third = three_tasks(train_size=30).train_stream
        strategy.train(first, eval_streams=[], shuffle=False)
        plugin.every = 10**9
        for experience in (second, third, second, third, second):
            strategy.train(experience, eval_streams=[], shuffle=False)
            place = strategy.plugins.index(plugin)
            plugin = strategy.plugins[place] = again(plugin)
        results.append(weights(strategy))
    assert torch.equal(*results)


def idle_warnings(plugin, **given):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(plugin, **given)
    return [str(w.message) for w in caught if "has had no effect" in str(w.message)]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("update", ["proximal", "gradient"])
def test_a_penalty_that_is_lost_in_rounding_is_warned_of_at_each_consolidation(update, optimizer):
    plugin = OnlineEWCPlugin(1e-14, update=update)
    told = idle_warnings(plugin, optimizer=partial(optimizer, lr=0.01))
    assert len(told) == 2
    assert told[0].startswith("OnlineEWCPlugin: the penalty has had no effect since the last")
    assert "lam=1e-14 times the curvature's largest eigenvalue" in told[0]
    assert told[0].endswith("use a larger lam")


def test_a_curvature_of_zero_is_warned_of():
    told = idle_warnings(Fixed(1.0, "diagonal", scale=0.0))
    assert len(told) == 2
    assert told[0].endswith("its curvature is zero, so no lam helps: estimate it from more samples")


@pytest.mark.parametrize("update", ["proximal", "gradient"])
@pytest.mark.parametrize("name", EACH)
def test_of_a_penalty_that_acts_or_of_none_there_is_no_warning(name, update):
    assert not idle_warnings(EACH[name](STRENGTH[name], update=update))
    assert not idle_warnings(EACH[name](0.0, update=update))
