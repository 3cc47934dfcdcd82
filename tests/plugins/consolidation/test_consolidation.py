"""How the penalty acts in a strategy, independent of its estimate."""

import warnings
from copy import deepcopy
from itertools import product

import pytest
import torch
from torch.nn.functional import cross_entropy

from avalanche_ext.plugins import OnlineEWCPlugin
from tests.cases import Spy, weights
from tests.plugins.consolidation.consolidation_cases import (
    EACH,
    STRENGTH,
    AfterTheStep,
    Iterations,
    dense,
    naive,
    run,
    three_tasks,
    tiny,
)


def in_groups(parameters):
    """SGD with another rate for the first parameter."""
    first, *rest = parameters
    groups = [{"params": [first], "lr": 0.02}, {"params": rest, "lr": 0.05}]
    return torch.optim.SGD(groups, lr=0.1)


def by_layer(rates, matrix):
    """Each layer's harmonic mean of rates in the tiny model, weighted by the matrix's diagonal."""
    sizes = [65 * 6, 7 * 10]
    pairs = zip(rates.split(sizes), matrix.diagonal().split(sizes), strict=True)
    return torch.cat([(w.sum() / (w / r).sum()).expand(len(r)) for r, w in pairs])


UPDATES = ["proximal", "gradient"]
OPTIMIZERS = {
    "momentum and decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "two rates": in_groups,
}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_after_the_first_task_there_is_a_penalty_and_it_changes_what_is_learned(name, update):
    plugin, without = EACH[name](STRENGTH[name], update=update), EACH[name](0.0, update=update)
    held, free = naive(plugin), naive(without)
    assert plugin.diagnostics() == {}
    numbers = []
    for experience in three_tasks().train_stream:
        for strategy in (held, free):
            strategy.train(experience, eval_streams=[], shuffle=False)
        numbers.append({k.split("/")[1]: v for k, v in plugin.diagnostics().items()})
        if len(numbers) == 1:
            assert torch.equal(weights(held), weights(free))
            start = weights(held)
    assert numbers[0]["penalty"] == 0
    assert numbers[1]["penalty"] > 0
    assert numbers[2]["penalty"] > 0
    assert all(n["trace"] >= n["largest"] > 0 for n in numbers)
    assert (weights(held) - start).norm() < 0.99 * (weights(free) - start).norm()


@pytest.mark.parametrize("name", EACH)
def test_the_gradient_form_is_autograds_of_loss_and_penalty(name):
    plugin = EACH[name](STRENGTH[name], update="gradient")

    class Check(Iterations):
        def before_forward(self, strategy, **kwargs):
            self.model = deepcopy(strategy.model).double()

        def check_step(self, strategy):
            x, y, _ = strategy.mbatch
            parameters = [*self.model.parameters()]
            delta = torch.cat([p.flatten() for p in parameters]) - plugin.anchor.double()
            penalty = 0.5 * plugin.lam * delta @ dense(plugin.curvature) @ delta
            loss = cross_entropy(self.model(x.double()), y)
            assert float(strategy.loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
            gradient = torch.autograd.grad(loss + penalty, parameters)
            step = -0.05 * torch.cat([g.flatten() for g in gradient])
            actual = weights(strategy).double() - self.start
            assert (actual - step).norm() < 1e-4 * step.norm()

    check = Check(plugin)
    run(plugin, check)
    assert check.checked == 6


# Adam's rates span seven powers of ten: for eigenpairs alone see test_adaptive.py, in float64.
IN_SINGLE_PRECISION = [
    pair for pair in product(EACH, OPTIMIZERS) if pair != ("spectrum alone", "adam")
]


@pytest.mark.parametrize(("name", "optimizer"), IN_SINGLE_PRECISION)
def test_the_proximal_step_solves_the_dense_system_at_the_optimizers_rates(name, optimizer):
    plugin, step = EACH[name](STRENGTH[name] * 10), AfterTheStep()

    class Check(Iterations):
        anchor = None

        def rates(self, strategy):
            state, rates = strategy.optimizer.state, {}
            for group in strategy.optimizer.param_groups:
                for p in group["params"]:
                    size = torch.ones_like(p, dtype=torch.float64)
                    if optimizer == "adam":
                        square = state[p]["exp_avg_sq"].double() / (1 - 0.999 ** state[p]["step"])
                        size = square.sqrt() + 1e-8
                    rate = group["lr"] / (1 - group.get("momentum", 0.0))
                    rates[p] = (rate / size).flatten()
            return torch.cat([rates[p] for p in strategy.model.parameters()])

        def check_step(self, strategy):
            if plugin.anchor is not self.anchor or "spectrum" not in name:
                # With eigenpairs, Adam's rates are those of the first pull after a consolidation.
                self.anchor, self.eta = plugin.anchor, self.rates(strategy)
            matrix = dense(plugin.curvature)
            eta = by_layer(self.eta, matrix) if name == "kronecker" else self.eta
            system = plugin.lam * eta[:, None] * matrix
            delta = (step.weights - plugin.anchor).double()
            expected = torch.linalg.solve(torch.eye(len(delta)) + system, delta)
            actual = (weights(strategy) - plugin.anchor).double()
            assert (expected - delta).norm() > 1e-3 * delta.norm()
            assert (actual - expected).norm() < 1e-4 * delta.norm()

    check = Check(plugin)
    run(step, plugin, check, optimizer=OPTIMIZERS[optimizer])
    assert check.checked == 6


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_at_zero_strength_every_weight_is_bitwise_that_of_a_run_without(name, update, optimizer):
    plugin = EACH[name](0.0, update=update)
    strategies = [run(*p, optimizer=OPTIMIZERS[optimizer]) for p in ([], [plugin])]
    assert torch.equal(*map(weights, strategies))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_the_global_generator_is_left_as_it_is_found(name, update):
    torch.manual_seed(3)
    run()
    expected = torch.get_rng_state()
    torch.manual_seed(3)
    run(EACH[name](STRENGTH[name], update=update))
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", EACH)
def test_evaluation_between_experiences_changes_nothing(name, update):
    results = []
    for evaluates in (False, True):
        benchmark = three_tasks()
        strategy = naive(EACH[name](STRENGTH[name], update=update))
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], shuffle=False)
            if evaluates:
                strategy.eval(benchmark.test_stream)
        results.append(weights(strategy))
    assert torch.equal(*results)


def test_a_diverging_gradient_form_is_warned_of_once_for_each_consolidation():
    plugin = OnlineEWCPlugin(1e5, update="gradient")
    largest = []

    class Look(Spy):
        def after_training_exp(self, strategy, **kwargs):
            largest.append(plugin.curvature.largest)
            strategy.model.load_state_dict(tiny().state_dict())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(plugin, Look())
    told = [str(w.message) for w in caught if "update='proximal'" in str(w.message)]
    assert len(told) == 2
    for message, value in zip(told, largest, strict=False):
        assert "lam=1e+05" in message
        assert f"{value:.3g}" in message
        assert f"{0.05 * 1e5 * value:.3g}" in message


@pytest.mark.parametrize(("update", "lam"), [("proximal", 1e6), ("gradient", 1.0)])
def test_where_it_is_stable_there_is_no_warning(update, lam):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        strategy = run(OnlineEWCPlugin(lam, update=update))
    assert not [w for w in caught if "update='proximal'" in str(w.message)]
    assert torch.isfinite(weights(strategy)).all()


def test_a_hard_pull_keeps_what_the_penalty_sees_where_it_was():
    plugin = OnlineEWCPlugin(1e12, decay=1.0)
    strategy = naive(plugin)
    first, second, _ = three_tasks().train_stream
    strategy.train(first, eval_streams=[])
    before, seen = weights(strategy), plugin.curvature.diagonal > 1e-6
    strategy.train(second, eval_streams=[])
    change = (weights(strategy) - before).abs()
    assert seen.any()
    assert not seen.all()
    assert change[seen].max() < 1e-4
    assert change[~seen].max() > 1e-3


@pytest.mark.parametrize("changed", ["rate", "strength"])
@pytest.mark.parametrize("name", EACH)
def test_a_rate_or_strength_that_changes_within_an_experience_is_followed(name, changed):
    plugin, step = EACH[name](STRENGTH[name] * 10), AfterTheStep()

    class Schedule(Iterations):
        def before_training_iteration(self, strategy, **kwargs):
            super().before_training_iteration(strategy)
            if changed == "rate":
                strategy.optimizer.param_groups[0]["lr"] *= 0.5
            else:
                plugin.lam *= 2

        def check_step(self, strategy):
            rate = strategy.optimizer.param_groups[0]["lr"]
            delta = (step.weights - plugin.anchor).double()
            system = torch.eye(len(delta)) + plugin.lam * rate * dense(plugin.curvature)
            expected = torch.linalg.solve(system, delta)
            actual = (weights(strategy) - plugin.anchor).double()
            assert (actual - expected).norm() < 1e-4 * delta.norm()

    check = Schedule(plugin)
    run(step, plugin, check, benchmark=three_tasks(n_experiences=2))
    assert check.checked == 3
