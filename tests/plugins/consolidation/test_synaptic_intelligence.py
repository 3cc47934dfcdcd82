"""Synaptic intelligence through a strategy."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cross_entropy

from avalanche_ext.plugins import OnlineEWCPlugin, SynapticIntelligencePlugin
from tests.cases import Spy, weights
from tests.plugins.consolidation.consolidation_cases import AfterTheStep, naive, run, three_tasks

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


class Loop(Spy):
    """Integrates along the path in float64, gradients of its own; list it after the plugin."""

    def __init__(self, step, damping, decay):
        super().__init__()
        self.step, self.damping, self.decay = step, damping, decay
        self.importance, self.path, self.start = 0.0, 0.0, None
        self.importances = []

    def before_forward(self, strategy, **kwargs):
        self.before = weights(strategy).double()
        self.start = self.before if self.start is None else self.start
        model = deepcopy(strategy.model).double()
        x, y, _ = strategy.mbatch
        loss = cross_entropy(model(x.double()), y)
        gradient = torch.autograd.grad(loss, [*model.parameters()])
        self.gradient = torch.cat([g.flatten() for g in gradient])

    def after_update(self, strategy, **kwargs):
        self.path = self.path - self.gradient * (self.step.weights.double() - self.before)

    def after_training_exp(self, strategy, **kwargs):
        moved = weights(strategy).double() - self.start
        new = self.path.clamp(min=0) / (moved**2 + self.damping)
        self.importance = self.decay * self.importance + new
        self.importances.append(self.importance)
        self.path, self.start = 0.0, None


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", ["proximal", "gradient"])
def test_importances_are_those_of_a_plain_loop_without_the_penalty(update, optimizer):
    plugin = SynapticIntelligencePlugin(50.0, 0.7, damping=0.01, update=update)
    step = AfterTheStep()
    loop = Loop(step, 0.01, 0.7)
    run(step, plugin, loop, optimizer=OPTIMIZERS[optimizer])
    assert len(loop.importances) == 3
    expected, actual = loop.importances[-1], plugin.curvature.diagonal.double()
    assert (actual - expected).norm() < 1e-4 * expected.norm()


def test_paths_that_raise_the_loss_count_as_nothing():
    plugin = SynapticIntelligencePlugin(1.0)
    # A step against the gradient raises the loss along every weight.
    ascent = run(plugin, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, maximize=True))
    assert plugin.curvature.trace == 0
    assert torch.isfinite(weights(ascent)).all()


def test_the_path_lowers_the_loss_by_what_importances_say():
    """Over many small steps on one batch, the sum of ω is by how much the loss has fallen."""
    benchmark = three_tasks(n_experiences=1, train_size=10)
    (experience,) = benchmark.train_stream
    x, y = experience.dataset.x, experience.dataset.y

    def loss_of(strategy):
        with torch.no_grad():
            return float(cross_entropy(strategy.model(x), y))

    plugin = SynapticIntelligencePlugin(0.0, damping=1e6)
    strategy = naive(plugin, optimizer=lambda p: torch.optim.SGD(p, lr=0.002))
    strategy.train_epochs = 500
    before = loss_of(strategy)
    strategy.train(experience, eval_streams=[])
    fallen = before - loss_of(strategy)
    # So much damping leaves ω / 10⁶; along its own gradient no weight raises the loss.
    assert fallen > 0.3
    assert plugin.curvature.trace * 1e6 == pytest.approx(fallen, rel=0.03)


def test_penalties_of_others_are_part_of_the_loss_that_the_path_is_of():
    def importance(*others):
        plugin = SynapticIntelligencePlugin(0.0)
        run(*others, plugin)
        return plugin.curvature.diagonal

    assert not torch.equal(importance(OnlineEWCPlugin(20.0, update="gradient")), importance())


def test_the_first_task_is_learned_as_without_it():
    first = three_tasks(n_experiences=1)
    held = run(SynapticIntelligencePlugin(1e3), benchmark=first)
    assert torch.equal(weights(held), weights(run(benchmark=first)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"lam": -1.0},
        {"decay": 2.0},
        {"damping": 0.0},
        {"damping": float("inf")},
        {"update": "none"},
        {"every": 0},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        SynapticIntelligencePlugin(**arguments)
