"""Parameters of a loss in the strategy's optimizer, even if it is replaced."""

import pickle
from copy import deepcopy

import pytest
import torch
from avalanche.models import as_multitask
from avalanche.training import Naive
from avalanche.training.plugins import FromScratchTrainingPlugin, LRSchedulerPlugin
from pytorch_metric_learning.losses import ProxyNCALoss
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    GMEDPlugin,
    MetricLossPlugin,
    MGEMPlugin,
    MIRPlugin,
    OnlineEWCPlugin,
    RMarginPlugin,
    SynapticIntelligencePlugin,
)
from tests.cases import Spy, digits, quiet, small_model, train, weights
from tests.plugins.bgd_cases import Growing

OPTIMIZERS = {
    "SGD": lambda parameters: SGD(parameters, lr=0.05),
    "momentum": lambda parameters: SGD(parameters, lr=0.05, momentum=0.9),
    "Adam": lambda parameters: Adam(parameters, lr=0.01),
}
EVERY = {"shuffle": False, "eval_streams": []}


def with_hinge(**given):
    return RMarginPlugin(0.01, hinge=True, margin=1.0, **given)


def with_proxies(**given):
    return MetricLossPlugin(
        "ProxyNCALoss", 0.1, args={"num_classes": 10, "embedding_size": 16}, **given
    )


EACH = {"r_margin": with_hinge, "metric_loss": with_proxies}


class Alongside(Spy):
    """Trains a copy of the loss's parameter by an optimizer of its own, with the same gradients."""

    def __init__(self, plugin, make) -> None:
        super().__init__()
        (self.parameter,) = plugin.loss_parameters()
        self.copy = torch.nn.Parameter(self.parameter.detach().clone())
        self.optimizer = make([self.copy])

    def before_update(self, strategy, **kwargs):
        self.copy.grad = self.parameter.grad.clone()
        self.optimizer.step()

    def after_update(self, strategy, **kwargs):
        torch.testing.assert_close(self.parameter, self.copy)
        assert times_in(strategy.optimizer, self.parameter) == 1
        self.checked += 1


def times_in(optimizer, parameter) -> int:
    return sum(p is parameter for group in optimizer.param_groups for p in group["params"])


def growing():
    return Growing()


def with_heads():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return as_multitask(MLP([16], input_shape=(1, 8, 8), n_classes=10), "classifier")


def naive(*plugins, model=None, make=OPTIMIZERS["SGD"], strategy=Naive):
    model = small_model() if model is None else model
    return quiet(strategy, model, optimizer=make(model.parameters()), plugins=[*plugins])


def three_tasks(**given):
    return digits(n_experiences=5, train_size=40, **given).train_stream[:3]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("make_model", [small_model, growing, with_heads])
@pytest.mark.parametrize("name", EACH)
def test_it_is_trained_as_by_an_optimizer_of_its_own(name, make_model, optimizer):
    plugin, make = EACH[name](), OPTIMIZERS[optimizer]
    check = Alongside(plugin, make)
    before = check.copy.detach().clone()
    strategy = naive(plugin, check, model=make_model(), make=make)
    scenario = {"scenario": "task"} if make_model is with_heads else {}
    tasks = split_digits(n_experiences=5, train_size=40, **scenario)
    for experience in tasks.train_stream[:3]:
        strategy.train(experience, **EVERY)
        strategy.eval(tasks.test_stream)  # It adapts the model, too.
    assert check.checked == 3 * 4
    assert (check.parameter - before).abs().max() > 1e-4
    assert len(strategy.optimizer.param_groups) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", EACH)
def test_its_own_learning_rate(name, optimizer):
    plugin, make = EACH[name](lr=0.5), OPTIMIZERS[optimizer]

    def faster(parameters):
        made = make(parameters)
        made.param_groups[0]["lr"] = 0.5
        return made

    check = Alongside(plugin, faster)
    strategy = naive(plugin, check, model=growing(), make=make)
    for experience in three_tasks():
        strategy.train(experience, **EVERY)
    assert check.checked == 3 * 4
    rates = [group["lr"] for group in strategy.optimizer.param_groups]
    assert rates == [make(growing().parameters()).param_groups[0]["lr"], 0.5]


@pytest.mark.parametrize("name", EACH)
def test_it_is_trained_after_another_plugin_has_reset_the_optimizer(name):
    plugin = EACH[name]()
    check = Alongside(plugin, OPTIMIZERS["SGD"])
    strategy = naive(plugin, check, FromScratchTrainingPlugin())
    for experience in three_tasks():
        strategy.train(experience, **EVERY)
    assert check.checked == 3 * 4


@pytest.mark.parametrize("name", EACH)
def test_of_an_optimizers_groups_it_joins_the_first(name):
    plugin, model = EACH[name](), small_model()
    check = Alongside(plugin, lambda p: SGD(p, lr=0.05, momentum=0.9))
    groups = [
        {"params": [*model.hidden.parameters()], "lr": 0.05, "momentum": 0.9},
        {"params": [*model.classifier.parameters()], "lr": 0.01},
    ]
    strategy = naive(plugin, check, model=model, make=lambda _: SGD(groups, lr=0.2))
    for experience in three_tasks():
        strategy.train(experience, **EVERY)
    assert check.checked == 3 * 4
    assert [len(group["params"]) for group in strategy.optimizer.param_groups] == [5, 2]


@pytest.mark.parametrize("lr", [None, 0.5])
@pytest.mark.parametrize("name", EACH)
def test_optimizers_that_are_made_again_or_cleared_take_it_in_again(name, lr):
    class Renewing(Naive):
        def make_optimizer(self, **kwargs):
            self.optimizer = SGD(self.model.parameters(), lr=0.05)

    for strategy_class, told in (
        (Renewing, {}),
        (Naive, {"remove_params": True}),
        (Naive, {"reset_optimizer_state": True}),
    ):
        plugin = EACH[name](lr=lr)
        check = Alongside(plugin, lambda p: SGD(p, lr=lr or 0.05))
        strategy = naive(plugin, check, strategy=strategy_class)
        for experience in three_tasks():
            strategy.train(experience, **told, **EVERY)
        assert check.checked == 3 * 4


def test_its_learning_rate_follows_the_optimizers_schedule():
    model, plugin = small_model(), with_hinge()
    optimizer = SGD(model.parameters(), lr=0.05)
    check = Alongside(plugin, lambda p: SGD(p, lr=0.05))
    schedules = [
        LRSchedulerPlugin(ExponentialLR(each, 0.5), reset_scheduler=False, reset_lr=False)
        for each in (optimizer, check.optimizer)
    ]
    strategy = quiet(model=model, optimizer=optimizer, plugins=[plugin, check, *schedules])
    for experience in three_tasks():
        strategy.train(experience, **EVERY)
    assert check.checked == 3 * 4
    assert optimizer.param_groups[0]["lr"] == 0.05 / 8


def test_a_schedule_refuses_a_learning_rate_next_to_it():
    model = small_model()
    optimizer = SGD(model.parameters(), lr=0.05)
    ExponentialLR(optimizer, 0.5)
    strategy = quiet(model=model, optimizer=optimizer, plugins=[with_hinge(lr=0.5)])
    with pytest.raises(ValueError, match=r"lr=0.5: .* schedule"):
        strategy.train(three_tasks()[0], **EVERY)


@pytest.mark.parametrize("name", EACH)
def test_with_zero_strength_it_is_no_business_of_the_optimizer(name):
    plugin = EACH[name]()
    plugin.lam = 0.0
    (parameter,) = plugin.loss_parameters()
    before = parameter.detach().clone()
    strategy = naive(plugin, make=OPTIMIZERS["Adam"])
    alone = naive(make=OPTIMIZERS["Adam"])
    for experience in three_tasks():
        for each in (strategy, alone):
            each.train(experience, **EVERY)
    assert times_in(strategy.optimizer, parameter) == 0
    assert torch.equal(parameter, before)
    assert torch.equal(weights(strategy), weights(alone))


def test_a_loss_of_two_plugins_is_stepped_once():
    loss = ProxyNCALoss(num_classes=10, embedding_size=16)
    plugins = [MetricLossPlugin(loss, 0.1), MetricLossPlugin(loss, 0.2, layers=["hidden.2"])]
    check = Alongside(plugins[0], OPTIMIZERS["momentum"])
    strategy = naive(*plugins, check, make=OPTIMIZERS["momentum"])
    for experience in three_tasks():
        strategy.train(experience, **EVERY)
    assert check.checked == 3 * 4


@pytest.mark.parametrize("name", EACH)
def test_it_resumes_from_a_copy_or_a_pickle_of_plugin_or_strategy(name):
    results = []
    for again in (lambda it: it, deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = EACH[name]()
        strategy = naive(plugin)
        for experience in three_tasks():
            strategy.train(experience, **EVERY)
            place = strategy.plugins.index(plugin)
            plugin = strategy.plugins[place] = again(plugin)
        (parameter,) = plugin.loss_parameters()
        results.append(torch.cat([weights(strategy), parameter.detach().flatten()]))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])

    first, second, _ = three_tasks()
    plugin = EACH[name]()
    strategy = naive(plugin, make=OPTIMIZERS["momentum"])
    strategy.train(first, **EVERY)
    copied = deepcopy(strategy)
    for each in (strategy, copied):
        each.train(second, **EVERY)
    assert torch.equal(weights(strategy), weights(copied))
    (parameter,), (other,) = (
        next(p for p in each.plugins if isinstance(p, type(plugin))).loss_parameters()
        for each in (strategy, copied)
    )
    assert torch.equal(parameter, other)
    assert times_in(copied.optimizer, other) == 1


@pytest.mark.parametrize(
    "beside",
    [
        lambda: OnlineEWCPlugin(10.0),
        lambda: OnlineEWCPlugin(1.0, update="gradient"),
        lambda: SynapticIntelligencePlugin(),
        lambda: MGEMPlugin(20),
        lambda: GMEDPlugin(20),
        lambda: MIRPlugin(20),
    ],
    ids=["online_ewc", "online_ewc_gradient", "si", "mgem", "gmed", "mir"],
)
def test_plugins_that_look_at_the_learning_rates_are_not_disturbed(beside):
    """Without the hinge β moves nothing, so that its learning rate must make no difference."""
    results, boundaries = [], []
    for lr in (None, 7.0, 0.0):
        plugin = RMarginPlugin(0.01, lr=lr)
        strategy = naive(beside(), plugin, make=OPTIMIZERS["momentum"])
        for experience in three_tasks():
            strategy.train(experience, **EVERY)
        results.append(weights(strategy))
        boundaries.append(plugin.boundary.item())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert len({*boundaries}) == 3


def test_the_plugins_parameters_move_over_a_whole_benchmark():
    plugin = with_hinge()
    strategy = naive(plugin)
    train(strategy, digits())
    assert plugin.diagnostics()["r_margin/boundary"] == plugin.boundary.item() != 0.6
