"""A-GEM's steps inside real strategies, on a real benchmark."""

import pickle
from copy import deepcopy

import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.training import plugins as theirs
from torch import nn

from avalanche_ext.buffers import TaskBuffer
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import AGEMPlugin, DRLPlugin, MGEMPlugin, OnlineReplayPlugin
from avalanche_ext.plugins.core.guard import DivergedError
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.plugins.projection.agem_cases import Expected
from tests.plugins.projection.test_mgem_models import Growing

SMALL = {"n_experiences": 3, "train_size": 60}


def check(plugin, model=None, benchmark=None, batch_size=10, others=(), penalty=None):
    """Train with the plugin, each step compared; both outcomes must have been seen."""
    benchmark = benchmark or digits("permuted", **SMALL)
    expected = Expected(benchmark, penalty)
    strategy = make_naive(expected, plugin, *others, model=model, batch_size=batch_size)
    train(strategy, benchmark)
    assert expected.n_projected >= 2
    assert expected.n_free >= 2
    return strategy


class Arrivals(Spy):
    """Lists x and y of each mini-batch."""

    def __init__(self, arrived):
        super().__init__()
        self.arrived = arrived

    def before_forward(self, strategy, **kwargs):
        self.arrived.append((strategy.mb_x, strategy.mb_y))


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = small_model().double()

    def forward(self, x):
        return self.inner(x.double())


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("permuted", {}),
        ("permuted", {"references": "all", "sample_size": 7}),
        ("permuted", {"replacement": True, "replay": "first_task", "batch_size": 6}),
        ("split", {"references": "other_classes", "buffer": "ring", "replay": "always"}),
    ],
)
def test_every_step_is_the_formulas(kind, arguments):
    benchmark = digits(kind, train_size=40)
    check(AGEMPlugin(60, **arguments), Double(), benchmark, batch_size=4)


def test_single_precision():
    check(AGEMPlugin(60))


def test_penalties_are_projected_and_references_are_plain():
    class Decay(Spy):
        def before_backward(self, strategy, **kwargs):
            strategy.loss += decay(strategy.model)

    def decay(model):
        return 0.02 * sum((p**2).sum() for p in model.parameters())

    check(AGEMPlugin(60), Double(), others=[Decay()], penalty=decay)


def test_batch_normalisation_counts_the_references_as_a_batch():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(144, 10),
    )  # fmt: skip
    check(AGEMPlugin(60), model)
    assert model[1].num_batches_tracked == 18 + 12


def test_multi_head_models_have_references_on_the_right_heads():
    benchmark = digits(train_size=60, scenario="task")
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    check(AGEMPlugin(60), model, benchmark)


def test_classifiers_that_grow():
    benchmark, model = digits(train_size=60), Growing()
    expected = Expected(benchmark)
    train(make_naive(expected, AGEMPlugin(60), model=model), benchmark)
    assert model.classifier.classifier.out_features == 10
    assert expected.n_projected > 10


def test_the_first_task_is_learned_as_without_it():
    first = digits("permuted", **SMALL).train_stream[0]
    strategies = make_naive(), make_naive(AGEMPlugin(30))
    for strategy in strategies:
        strategy.train(first, eval_streams=[])
    assert torch.equal(*map(weights, strategies))


def test_a_step_on_one_sample_is_one_on_its_copies():
    first = digits("permuted", n_experiences=3, train_size=8).train_stream[0]
    plugin, arrived = AGEMPlugin(30, buffer="ring", balance="task", replacement=True), []
    strategy = make_naive(plugin, Arrivals(arrived), batch_size=1)
    model = deepcopy(strategy.model)
    strategy.train(first, eval_streams=[])
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    for x, y in arrived:
        sgd.zero_grad()
        nn.functional.cross_entropy(model(x.repeat(20, 1, 1, 1)), y.repeat(20)).backward()
        sgd.step()
    assert len(arrived) == 8
    copies = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights(strategy), copies)


def test_online_streams_are_learned_as_others():
    plain = digits("permuted", **SMALL)
    strategies = [make_naive(AGEMPlugin(60), batch_size=10) for _ in range(2)]
    for experience in plain.train_stream:
        strategies[0].train(experience, shuffle=False, eval_streams=[])
    stream = split_online_stream(plain.train_stream, experience_size=10, shuffle=False)
    for experience in stream:
        strategies[1].train(experience, shuffle=False, eval_streams=[])
    assert torch.equal(*map(weights, strategies))


def test_it_steps_as_avalanches_does_where_both_take_all_of_one_earlier_task():
    benchmark = digits("permuted", n_experiences=2, train_size=60)

    def trained(plugin):
        strategy = make_naive(plugin, batch_size=10)
        for experience in benchmark.train_stream:
            strategy.train(experience, shuffle=False, eval_streams=[])
        return weights(strategy)

    expected = trained(theirs.AGEMPlugin(patterns_per_experience=60, sample_size=60))
    ours = trained(AGEMPlugin(buffer=TaskBuffer(60), sample_size=60))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    assert (ours - trained(Spy())).norm() > 1e-3, "some steps are projected"


def test_a_gradient_of_zero_stays_zero():
    strategy = make_naive(AGEMPlugin(30))
    strategy._criterion = lambda outputs, y: 0.0 * outputs.sum()
    before = weights(strategy).clone()
    train(strategy, digits("permuted", **SMALL))
    assert torch.equal(weights(strategy), before)


def test_a_diverged_model_is_named():
    strategy = make_naive(AGEMPlugin(30))
    strategy.optimizer.param_groups[0]["lr"] = 1e30
    with pytest.raises(DivergedError, match="the loss became nan at iteration 1 "):
        train(strategy, digits("permuted", **SMALL))


def test_a_gradient_that_is_not_finite_is_named_where_the_loss_is():
    strategy = make_naive(AGEMPlugin(30))
    first, second, *_ = digits("permuted", **SMALL).train_stream
    strategy.train(first, eval_streams=[])
    strategy._criterion = lambda outputs, y: (0.0 * outputs).sum().sqrt()
    with pytest.raises(FloatingPointError, match="training has diverged"):
        strategy.train(second, eval_streams=[])


def test_it_resumes_from_a_copy_or_a_pickle_as_if_nothing_had_happened():
    first, *rest = digits("permuted", **SMALL).train_stream
    results = []
    for again in (lambda it: it, deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = AGEMPlugin(60, sample_size=20)
        strategy = make_naive(plugin, batch_size=10)
        strategy.train(first, eval_streams=[])
        strategy.plugins[strategy.plugins.index(plugin)] = again(plugin)
        for experience in rest:
            strategy.train(experience, eval_streams=[])
        results.append(weights(strategy))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    "others",
    [
        lambda: [OnlineReplayPlugin(40, 2)],
        lambda: [DRLPlugin(lam=0.01)],
        lambda: [theirs.EWCPlugin(0.01)],
        lambda: [MGEMPlugin(2, 0.0)],
    ],
)
def test_every_order_uses_all_plugins(others):
    def trained(*plugins):
        strategy = make_naive(*plugins, batch_size=10)
        train(strategy, digits(train_size=60))
        return weights(strategy)

    alone, without = trained(AGEMPlugin(60)), trained(*others())
    for first in (True, False):
        agem = AGEMPlugin(60)
        together = trained(*([agem, *others()] if first else [*others(), agem]))
        assert agem.buffer.n_seen == 300
        assert not torch.equal(together, alone)
        assert not torch.equal(together, without)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("permuted", {}),
        ("permuted", {"references": "all"}),
        ("split", {"references": "other_classes", "replay": "always", "buffer": "ring"}),
    ],
)
def test_it_forgets_less_than_finetuning(kind, arguments):
    benchmark = digits(kind, n_experiences=5, train_size=250)

    def accuracy_on_first(*plugins):
        strategy = make_naive(*plugins, batch_size=5)
        train(strategy, benchmark)
        dataset = benchmark.test_stream[0].dataset
        return (strategy.model(dataset.x).argmax(1) == dataset.y).float().mean().item()

    assert accuracy_on_first(AGEMPlugin(200, **arguments)) > accuracy_on_first() + 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mem_size": 0}, "mem_size"),
        ({"sample_size": 0}, "sample_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"buffer": "rign"}, "buffer"),
        ({"balance": "domain"}, "balance"),
        ({"references": "other"}, "references"),
        ({"replacement": 1}, "replacement"),
        ({"replay": True}, "replay"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        AGEMPlugin(**arguments)
