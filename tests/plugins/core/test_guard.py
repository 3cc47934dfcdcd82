"""Training stops with a clear word where the loss, the inputs or the weights are not finite."""

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from torch import nn

from avalanche_ext.plugins import MethodPlugin, OnlineReplayPlugin, Phase
from avalanche_ext.plugins.core import guard
from avalanche_ext.plugins.core.guard import DivergedError, LossGuard
from tests.cases import digits, make_naive, quiet, small_model, train
from tests.plugins.every_plugin import PLUGINS

METHODS = [name for name, make in PLUGINS.items() if isinstance(make(), MethodPlugin)]


class Poison(SupervisedPlugin):
    """Makes the loss of one iteration something else."""

    def __init__(self, iteration: int, value: float) -> None:
        super().__init__()
        self.iteration, self.value = iteration, value

    def before_backward(self, strategy, **kwargs):
        if strategy.clock.train_iterations == self.iteration:
            strategy.loss = strategy.loss * self.value


@pytest.fixture(params=[False, True], ids=["at once", "50 at a time"])
def waits(request, monkeypatch):
    monkeypatch.setattr(guard, "_makes_the_host_wait", lambda tensor: request.param)


@pytest.mark.parametrize("iteration", [0, 1, 49, 50, 51, 99, 133])
@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_names_the_iteration(iteration, value, shown, waits):
    strategy = make_naive(Poison(iteration, value), LossGuard())
    with pytest.raises(DivergedError, match=rf"became {shown} at iteration {iteration} "):
        train(strategy, digits())


def test_finite_losses_pass(waits):
    strategy = make_naive(LossGuard())
    train(strategy, digits())
    assert all(torch.isfinite(p).all() for p in strategy.model.parameters())


def poisoned(value, rows=17):
    """Two experiences of which the second has rows with one pixel that is not finite."""
    benchmark = digits(n_experiences=2, train_size=30)
    benchmark.train_stream[1].dataset.x[rows, 0, 3, 3] = value
    return benchmark


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_names_the_inputs(value, waits):
    strategy = make_naive(OnlineReplayPlugin(20, 5))
    with pytest.raises(DivergedError, match=r"nan at iteration \d .* 1: the stream's inputs"):
        train(strategy, poisoned(value))


def test_names_the_weights_before_training():
    model = small_model()
    with torch.no_grad():
        model.hidden[2].weight[3, 1] = torch.nan
    strategy = make_naive(OnlineReplayPlugin(20, 5), model=model)
    message = r"iteration 0 .*'hidden\.2\.weight' were not finite when training began"
    with pytest.raises(DivergedError, match=message):
        train(strategy, digits())


def test_names_the_weights_that_a_step_has_destroyed():
    class Slip(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 2:
                strategy.model.classifier.bias.grad[0] = torch.inf

    strategy = make_naive(OnlineReplayPlugin(20, 5), Slip())
    message = r"iteration 3 .*'classifier\.bias' are no longer finite; a lower learning rate"
    with pytest.raises(DivergedError, match=message):
        train(strategy, digits())


def test_a_last_step_that_destroys_the_weights_is_noticed(waits):
    class Slip(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            strategy.model.classifier.bias.grad[0] = torch.nan

    strategy = make_naive(OnlineReplayPlugin(20, 5), Slip())
    benchmark = digits(n_experiences=2, train_size=10)
    message = r"'classifier\.bias' are not finite after iteration 0 .* experience 0"
    with pytest.raises(DivergedError, match=message):
        train(strategy, benchmark)


def learn(strategy, stream):
    for part in stream:
        strategy.train(part, eval_streams=[])


def test_weights_are_looked_at_once_an_experience_of_an_online_stream(monkeypatch, waits):
    looks = []
    monkeypatch.setattr(guard, "_bad_weight", lambda model: looks.append(model))
    stream = split_online_stream(digits(n_experiences=5, train_size=40).train_stream, 10)
    learn(make_naive(OnlineReplayPlugin(20, 5)), stream)
    assert len(looks) == 5


@pytest.mark.parametrize("iteration", [3, 7])
def test_a_last_part_that_destroys_the_weights_is_noticed(iteration, waits):
    class Slip(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == iteration:
                strategy.model.classifier.bias.grad[0] = torch.nan

    stream = split_online_stream(digits(n_experiences=2, train_size=40).train_stream, 10)
    strategy = make_naive(OnlineReplayPlugin(20, 5), Slip())
    message = rf"'classifier\.bias' are not finite after iteration {iteration} "
    with pytest.raises(DivergedError, match=message):
        learn(strategy, stream)


def test_a_last_part_that_is_learned_again_is_looked_at_again(waits):
    class Slip(SupervisedPlugin):
        def after_backward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 5:
                strategy.model.classifier.bias.grad[0] = torch.nan

    parts = split_online_stream(digits(n_experiences=2, train_size=20).train_stream[1:], 10)
    strategy = make_naive(OnlineReplayPlugin(20, 5), Slip())
    with pytest.raises(DivergedError, match=r"not finite after iteration 5 "):
        learn(strategy, [part for part in parts for _ in range(3)])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_where_inputs_weights_and_rates_are_wrong(name):
    model = small_model()
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    by_data = "(stream's inputs|replayed samples) are not finite; look at the data"
    cases = {
        by_data: (
            poisoned(torch.nan, slice(None)),  # Balanced replay trains on some rows only.
            small_model(),
            0.1,
        ),
        "'classifier.bias' were not finite": (digits(), model, 0.1),
        "a lower learning rate": (digits(), small_model(), 1e30),
    }
    for cause, (benchmark, made, lr) in cases.items():
        optimizer = torch.optim.SGD(made.parameters(), lr=lr)
        plugin = PLUGINS[name]()
        if name == "bgd":
            plugin.lr = lr * 1e30 if lr > 1 else plugin.lr
        strategy = quiet(model=made, plugins=[plugin], optimizer=optimizer)
        with pytest.raises(ArithmeticError, match=cause):
            train(strategy, benchmark)


def test_a_method_that_forgets_its_base_class_in_every_other_hook_is_guarded():
    class Forgetful(MethodPlugin):
        phase = Phase.PENALTY

        def before_training_exp(self, strategy, **kwargs):
            pass

        def before_backward(self, strategy, **kwargs):
            pass

        def after_training_epoch(self, strategy, **kwargs):
            pass

    with pytest.raises(DivergedError, match="became nan at iteration 7 "):
        train(make_naive(Poison(7, torch.nan), Forgetful()), digits())


def test_one_guard_comes_before_the_clock():
    strategy = make_naive(OnlineReplayPlugin(20, 5), PLUGINS["drl"]())
    train(strategy, digits(n_experiences=2, train_size=20))
    guards = [plugin for plugin in strategy.plugins if isinstance(plugin, LossGuard)]
    assert guards == [strategy.plugins[-2]]
    assert strategy.plugins[-1] is strategy.clock


def test_a_model_without_trained_weights_and_a_large_weight_are_no_error():
    frozen = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        frozen[1].bias[0] = 3e38
    assert guard._bad_weight(frozen) is None
    frozen[1].requires_grad_(False)
    frozen[1].bias[0] = torch.nan
    assert guard._bad_weight(frozen) is None
