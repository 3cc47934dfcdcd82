"""GSS-greedy inside real strategies, on a real benchmark, against a loop by hand."""

import pickle
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models.utils import avalanche_model_adaptation
from avalanche.training.plugins import ReplayPlugin
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import BGDPlugin, GSSPlugin, MGEMPlugin, MIRPlugin
from tests.cases import digits, make_naive, train, weights
from tests.plugins.replay.gss_cases import Double, check, in_order, small_mlp, strategy_of
from tests.plugins.replay.lookahead_cases import convolutional


@pytest.mark.parametrize("n_iterations", [1, 3])
@pytest.mark.parametrize("make", [small_mlp, convolutional])
def test_steps_and_memory_are_those_of_a_loop_by_hand(make, n_iterations):
    model = Double(make())
    by_hand = check(model, digits(train_size=60).train_stream, {"n_iterations": n_iterations})
    assert by_hand.n_replaced > 0
    assert by_hand.n_passed_over > 0


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ({}, {"momentum": 0.9}),
        ({}, {"n_epochs": 2}),
        ({"mem_size": 4}, {}),
        ({"mem_size": 6, "batch_size": 50}, {"stream_batch_size": 4}),
        ({}, {"stream_batch_size": 1}),
    ],
    ids=["momentum", "two epochs", "memory smaller than a batch", "one part", "single samples"],
)
def test_so_they_are_in_other_settings(arguments, given):
    by_hand = check(Double(small_mlp()), digits(train_size=30).train_stream, arguments, **given)
    assert by_hand.n_replaced > 0


@pytest.fixture
def double_precision():
    """For models that make tensors of the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_so_they_are_with_a_head_for_each_task(double_precision):
    benchmark = split_digits(n_experiences=5, train_size=30, scenario="task")
    model = mlp([8], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    for experience in benchmark.train_stream:
        avalanche_model_adaptation(model, experience)
    by_hand = check(model, benchmark.train_stream, {})
    assert len({int(t) for _, _, t in by_hand.memory}) > 1


def test_so_they_are_with_one_class_alone():
    stream = split_digits(n_experiences=10, train_size=60).train_stream[:1]
    by_hand = check(Double(small_mlp()), stream, {})
    assert {int(y) for _, y, _ in by_hand.memory} == {0}


class Nothing(nn.CrossEntropyLoss):
    """A criterion without gradient."""

    def forward(self, outputs, labels):
        return 0 * super().forward(outputs, labels)


@pytest.mark.parametrize("make", [small_mlp, convolutional])
def test_gradients_of_zero_are_like_no_other(make):
    plugin, model = GSSPlugin(25, threshold=0.5), make()
    before = deepcopy(model)
    train(strategy_of(plugin, model=model, criterion=Nothing()), digits(train_size=30))
    assert plugin.buffer.scores.tolist() == [0] * 25, "those of the first batch have left"
    assert all(map(torch.equal, model.parameters(), before.parameters()))


@pytest.mark.parametrize("make", [small_mlp, convolutional])
def test_a_full_memory_changes_only_if_a_batch_is_unlike_all_parts_of_it(make):
    benchmark = digits(train_size=60)
    never, always = GSSPlugin(25, threshold=-1), GSSPlugin(25, threshold=1)
    in_order(strategy_of(never, model=make()), benchmark.train_stream)
    assert torch.equal(never.buffer.buffer.x, benchmark.train_stream[0].dataset.x[:25])
    assert never.buffer.n_seen == 300
    assert never.diagnostics()["gss/replaced"] == 0
    in_order(strategy_of(always, model=make()), benchmark.train_stream)
    assert set(always.buffer.buffer.y.tolist()) > {8, 9}
    assert always.diagnostics()["gss/replaced"] > 10
    assert always.diagnostics()["gss/score"] == pytest.approx(always.buffer.scores.mean())


def test_a_batch_whose_largest_cosine_equals_the_threshold_changes_nothing():
    """Gradients of zero have the cosine 0, which is the default threshold."""
    plugin, stream = GSSPlugin(25), digits(train_size=60).train_stream
    in_order(strategy_of(plugin, criterion=Nothing()), stream)
    assert torch.equal(plugin.buffer.buffer.x, stream[0].dataset.x[:25])
    assert plugin.diagnostics()["gss/replaced"] == 0


class Kept(SupervisedPlugin):
    """Notes what the strategy's step leaves, and compares it when the plugin before it has acted.

    List it after the plugin.
    """

    def after_update(self, strategy, **kwargs):
        self.gradients = [p.grad.clone() for p in strategy.model.parameters()]
        self.loss, self.outputs = strategy.loss.clone(), strategy.mb_output.clone()
        self.random = torch.get_rng_state()
        self.weights = weights(strategy)
        self.n_checked = getattr(self, "n_checked", 0)

    def after_training_iteration(self, strategy, **kwargs):
        gradients = [p.grad for p in strategy.model.parameters()]
        assert all(map(torch.equal, gradients, self.gradients))
        assert torch.equal(strategy.loss, self.loss)
        assert torch.equal(strategy.mb_output, self.outputs)
        assert torch.equal(torch.get_rng_state(), self.random)
        assert not torch.equal(weights(strategy), self.weights)
        assert strategy.model.training
        self.n_checked += 1


def test_other_plugins_find_what_the_strategys_own_step_has_left():
    kept = Kept()
    train(strategy_of(GSSPlugin(25, n_iterations=2), kept), digits(train_size=60))
    assert kept.n_checked == 30


def test_the_clock_counts_iterations_and_not_steps():
    strategy = strategy_of(GSSPlugin(25, n_iterations=3))
    steps = []
    strategy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    train(strategy, digits(train_size=60))
    assert strategy.clock.train_iterations == 30
    assert len(steps) == 30 * 6 - 3, "there is nothing to replay beside the first batch"


def test_a_pickled_plugin_continues_as_it_would_have():
    first, second, *_ = digits(train_size=60).train_stream
    plugin = GSSPlugin(25, n_iterations=2, seed=3)
    strategy = strategy_of(plugin)
    in_order(strategy, [first])
    again = pickle.loads(pickle.dumps(plugin))
    twin = strategy_of(again, model=deepcopy(strategy.model))
    for each in (strategy, twin):
        in_order(each, [second])
    assert torch.equal(weights(twin), weights(strategy))
    assert torch.equal(again.buffer.buffer.x, plugin.buffer.buffer.x)
    assert again.buffer.scores.tolist() == plugin.buffer.scores.tolist()


def test_gem_may_project_the_strategys_own_step_with_the_same_memory():
    plugin = GSSPlugin(25, n_iterations=2)
    gem = MGEMPlugin(buffer=plugin.buffer, statistics=True)
    train(strategy_of(gem, plugin), digits(train_size=60))
    assert plugin.buffer.n_seen == 300
    assert gem.diagnostics()["mgem/projected"] > 0


@pytest.mark.parametrize("make", [lambda: MIRPlugin(20), lambda: ReplayPlugin(20)])
def test_a_second_memory_is_refused(make):
    with pytest.raises(ValueError, match="samples that one of them replays would look new"):
        train(strategy_of(GSSPlugin(20), make()), digits(train_size=20))


def test_bgd_with_it_is_refused():
    with pytest.raises(ValueError, match=r"GSSPlugin. cannot be combined with .BGDPlugin"):
        train(strategy_of(GSSPlugin(20), BGDPlugin()), digits(train_size=20))


def test_it_forgets_less_than_finetuning():
    benchmark = digits()

    def accuracy_on_first(*plugins):
        strategy = make_naive(*plugins)
        train(strategy, benchmark)
        dataset = benchmark.test_stream[0].dataset
        return (strategy.model(dataset.x).argmax(1) == dataset.y).float().mean().item()

    assert accuracy_on_first() < 0.2
    assert accuracy_on_first(GSSPlugin(100, n_iterations=5)) > 0.7


@pytest.mark.parametrize("name", ["mem_size", "batch_size", "n_iterations", "n_references"])
def test_numbers_below_one_are_named(name):
    with pytest.raises(ValueError, match=name):
        GSSPlugin(**{name: 0})


@pytest.mark.parametrize("threshold", [-1.5, 2, float("nan")])
def test_a_threshold_that_is_no_cosine_is_named(threshold):
    with pytest.raises(ValueError, match="threshold"):
        GSSPlugin(threshold=threshold)
