"""Compiled steps train like uncompiled ones, with all plugins, models and criteria."""

from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier
from torch import nn
from torch.profiler import ProfilerActivity, profile

from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    MultiSimilarityPlugin,
    RepresentationLossPlugin,
    RMarginPlugin,
)
from avalanche_ext.strategies.compiled import compile_steps, share_compiled, why_eager
from tests.cases import digits, make_naive, train, weights
from tests.functional.compiled.cases import Forgetful, Scaled, Squared, counted_calls


def mlp():
    """A small model, always with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP([16], input_shape=(1, 8, 8), n_classes=10)


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the mini-batches that compiled code has been called for."""
    return counted_calls(monkeypatch)


class Checked(SupervisedPlugin):
    """Compares the loss and the gradients of each step with those of a copy of the model."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def after_backward(self, strategy, **kwargs):
        model, criterion = deepcopy(strategy.model), nn.CrossEntropyLoss()
        terms = [deepcopy(p) for p in strategy.plugins if isinstance(p, RepresentationLossPlugin)]
        model.zero_grad()
        for term in terms:
            term.watch(model)
        outputs, y = model(strategy.mb_x), strategy.mb_y
        loss = criterion(outputs, y)
        for term in terms:
            loss = loss + term.lam * term.loss_seen(outputs, y, *term.loss_tensors(y))
            term.look_away()
        loss.backward()
        close = {"rtol": 0.0, "atol": 1e-5}
        torch.testing.assert_close(strategy.loss.detach(), loss.detach()[None], **close)
        torch.testing.assert_close(strategy.mb_output.detach(), outputs.detach(), **close)
        for found, right in zip(strategy.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(found.grad, right.grad, **close)
            assert found.grad.stride() == right.grad.stride()
        self.n += 1


@pytest.mark.parametrize(
    "terms",
    [
        [],
        [DRLPlugin(lam=0.1), MultiSimilarityPlugin(lam=0.5), RMarginPlugin(lam=0.1)],
    ],
    ids=["criterion", "terms"],
)
def test_each_step_is_that_of_the_model_at_the_same_weights(calls, terms):
    checked, replay = Checked(), BalancedReplayPlugin(mem_size=20)
    strategy = make_naive(replay, *terms, checked, batch_size=7, model=mlp())
    compile_steps(strategy)
    train(strategy, digits(train_size=60))
    assert checked.n == len(calls) == strategy.clock.train_iterations


def operators(strategy, experience):
    """The number of torch's operations in training on an experience."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        strategy.train(experience, eval_streams=[])
    return sum(event.count for event in seen.key_averages() if event.key.startswith("aten::"))


def test_a_compiled_step_calls_fewer_operations():
    benchmark, numbers = digits(train_size=60), {}
    for is_compiled in (False, True):
        strategy = make_naive(model=mlp())
        if is_compiled:
            compile_steps(strategy)
        train(strategy, digits(train_size=60))
        numbers[is_compiled] = operators(strategy, benchmark.train_stream[0])
    assert numbers[True] < 0.6 * numbers[False]


class Halved(SupervisedPlugin):
    """Trains on half the loss, and on the size of the weights."""

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss / 2
        strategy.loss += 0.1 * sum(p.square().sum() for p in strategy.model.parameters())


class Known(Halved):
    """The same, by a plugin that says that this needs no graph."""

    reads_graph = False


class Sharpened(SupervisedPlugin):
    """Adds a term of the output, and says that this needs no graph."""

    reads_graph = False

    def before_backward(self, strategy, **kwargs):
        strategy.loss += strategy.mb_output.square().mean()


def test_a_users_plugin_in_the_backward_pass_rules_compiled_steps_out_unless_it_declares():
    assert "Halved needs the graph" in why_eager(make_naive(Halved(), model=mlp()))
    with pytest.raises(ValueError, match="no compiled steps: Halved"):
        compile_steps(make_naive(Halved(), model=mlp()))
    assert why_eager(make_naive(Known(), model=mlp())) == ""

    class Again(Known):
        def after_forward(self, strategy, **kwargs):
            pass

    assert "Again needs the graph" in why_eager(make_naive(Again(), model=mlp()))


class Kept(DRLPlugin):
    """Does more in its loss than return it."""

    def representation_loss(self, representations, labels):
        self.kept = representations
        return super().representation_loss(representations, labels)


def test_a_users_loss_on_layers_trains_compiled_if_it_declares(calls):
    plugins = Squared(), Squared()
    strategies = [make_naive(plugin, model=mlp()) for plugin in plugins]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    assert plugins[1].scale != 2.0
    torch.testing.assert_close(plugins[0].scale, plugins[1].scale, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_a_loss_on_layers_that_is_not_pure_trains_uncompiled():
    assert "Kept needs the graph" in why_eager(make_naive(Kept(), model=mlp()))
    changed = DRLPlugin()
    changed.representation_loss = lambda representations, labels: representations[0].sum()
    assert "DRLPlugin needs the graph" in why_eager(make_naive(changed, model=mlp()))
    strategies = [make_naive(Forgetful(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    with pytest.warns(UserWarning, match="parameters of a term are not among its loss_tensors"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))


class Scheduled(SupervisedPlugin):
    """Changes what DRL is made with, in the middle of an experience."""

    def before_training_iteration(self, strategy, **kwargs):
        drl = next(p for p in strategy.plugins if isinstance(p, DRLPlugin))
        n = strategy.clock.train_exp_iterations
        drl.lam = 0.0 if n == 2 else 0.1 + 0.1 * n
        drl.alpha = 0.5 if n > 3 else 2.0


def test_settings_of_a_term_may_change_in_the_middle_of_an_experience(calls):
    strategies = [make_naive(Scheduled(), DRLPlugin(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("terms", [[], [DRLPlugin(lam=0.1)]], ids=["criterion", "term"])
def test_what_a_plugin_makes_of_the_loss_counts(calls, terms):
    strategies = [
        make_naive(each, *deepcopy(terms), each, model=mlp()) for each in (Known(), Halved())
    ]
    compile_steps(strategies[0])
    for strategy in strategies:
        train(strategy, digits(train_size=60))
    assert calls
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_a_term_of_the_output_that_was_not_declared_is_refused():
    strategy = make_naive(Sharpened(), model=mlp())
    compile_steps(strategy)
    with pytest.raises(RuntimeError, match="differentiates the mini-batch's output"):
        train(strategy, digits(train_size=60))


def test_a_plugin_that_is_added_later_counts():
    strategies = [make_naive(model=mlp()), make_naive(model=mlp())]
    compile_steps(strategies[0])
    for strategy in strategies:
        strategy.plugins.insert(0, Halved())
    with pytest.warns(UserWarning, match="trains uncompiled, because Halved needs the graph"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))


def test_hooks_on_the_model_are_called_and_noted(calls):
    strategies = [make_naive(DRLPlugin(lam=0.1), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    benchmark, seen = digits(train_size=60), []
    for strategy in strategies:
        strategy.train(benchmark.train_stream[0], eval_streams=[])
        strategy.model.classifier.register_forward_hook(lambda *call: seen.append(call[0]))
    with pytest.warns(UserWarning, match="uncompiled wherever hooks are set"):
        strategies[0].train(benchmark.train_stream[1], eval_streams=[])
    strategies[1].train(benchmark.train_stream[1], eval_streams=[])
    assert len(seen) == 12
    assert len(calls) == 6
    assert share_compiled(strategies[0]) == 0.5
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


class Reweighted(SupervisedPlugin):
    """Gives the criterion other weights and another setting in the middle of an experience."""

    def before_training_iteration(self, strategy, **kwargs):
        if strategy.clock.train_iterations == 3:
            strategy._criterion.weight = torch.linspace(0.1, 3.0, 10)
            strategy._criterion.label_smoothing = 0.1


def test_a_criterion_may_change_in_the_middle_of_an_experience(calls):
    strategies = [make_naive(Reweighted(), model=mlp()) for _ in range(2)]
    compile_steps(strategies[0])
    for strategy in strategies:
        strategy._criterion = nn.CrossEntropyLoss(torch.ones(10))
        train(strategy, digits(train_size=60))
    assert len(calls) == strategies[0].clock.train_iterations
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


def test_with_a_criterion_that_is_trained_steps_are_uncompiled():
    strategies = [make_naive(model=mlp()) for _ in range(2)]
    for strategy in strategies:
        strategy._criterion = Scaled()
        strategy.optimizer.param_groups[0]["params"].append(strategy._criterion.scale)
    compile_steps(strategies[0])
    with pytest.warns(UserWarning, match="because the criterion has parameters that are trained"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert torch.equal(*map(weights, strategies))
    assert strategies[0]._criterion.scale == strategies[1]._criterion.scale != 1.0


class Growing(nn.Module):
    """A classifier that grows, next to a layer that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.classifier = IncrementalClassifier(64, masking=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.classifier(x.flatten(1))


def test_a_model_that_grows_is_recompiled_and_unused_weights_have_no_gradient(calls):
    strategies = []
    for is_compiled in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Growing()
            strategies.append(make_naive(model=model))
            for group in strategies[-1].optimizer.param_groups:
                group["weight_decay"] = 0.1
            if is_compiled:
                compile_steps(strategies[0])
            train(strategies[-1], digits(n_experiences=2, train_size=30))
    assert len(calls) == strategies[0].clock.train_iterations
    assert strategies[0].model.classifier.classifier.out_features == 10
    assert strategies[0].model.unused.weight.grad is None
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)


class Limited(MLP):
    """Limits its largest outputs once an option is set, in a way that cannot be compiled."""

    def __init__(self):
        super().__init__([16], input_shape=(1, 8, 8), n_classes=10)
        self.options = {"is_limited": False}

    def forward(self, x):
        outputs = super().forward(x)
        if self.options["is_limited"] and outputs.abs().max() > 3.0:
            return outputs.clamp(-3.0, 3.0)
        return outputs


class Limiting(SupervisedPlugin):
    """Sets this option in the middle of an experience."""

    def before_training_iteration(self, strategy, **kwargs):
        if strategy.clock.train_iterations == 4:
            strategy.model.options["is_limited"] = True


def test_where_code_stops_compiling_a_term_draws_once_for_each_mini_batch(calls):
    strategies = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Limited()
        term = RMarginPlugin(lam=0.1, redraw=True)
        strategies.append(make_naive(term, Limiting(), model=model))
    compile_steps(strategies[0])
    with pytest.warns(UserWarning, match="trains uncompiled, because it cannot be compiled"):
        train(strategies[0], digits(train_size=60))
    train(strategies[1], digits(train_size=60))
    assert len(calls) == 5
    assert share_compiled(strategies[0]) == 4 / strategies[0].clock.train_iterations
    torch.testing.assert_close(*map(weights, strategies), rtol=1e-5, atol=1e-5)
