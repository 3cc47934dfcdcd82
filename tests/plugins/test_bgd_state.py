"""What BGD draws, keeps and refuses."""

import pickle
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training import plugins as theirs
from torch import nn

from avalanche_ext.plugins import BGDPlugin, DRLPlugin, HALPlugin, MGEMPlugin, OnlineReplayPlugin
from tests.cases import digits, make_naive, train, weights
from tests.plugins.bgd_cases import SMALL, Growing


def test_draws_are_its_own_and_depend_on_the_seed_alone():
    def final(seed):
        torch.manual_seed(3)
        strategy = make_naive(BGDPlugin(initial_std=0.1, seed=seed))
        for experience in digits(**SMALL).train_stream:
            strategy.train(experience, eval_streams=[], shuffle=False)
        return weights(strategy), torch.get_rng_state()

    torch.manual_seed(3)
    untouched = make_naive()
    for experience in digits(**SMALL).train_stream:
        untouched.train(experience, eval_streams=[], shuffle=False)
    expected_state = torch.get_rng_state()
    (first, state), (again, _), (other, _) = final(0), final(0), final(1)
    assert torch.equal(state, expected_state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_resumes_from_a_copy_or_a_pickle_as_if_nothing_had_happened():
    first, *rest = digits("permuted", n_experiences=3, train_size=30).train_stream
    results = []
    for again in (lambda it: it, deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = BGDPlugin(n_draws=2, initial_std=0.1)
        torch.manual_seed(0)
        strategy = make_naive(plugin)
        strategy.train(first, eval_streams=[])
        strategy.plugins[strategy.plugins.index(plugin)] = again(plugin)
        for experience in rest:
            strategy.train(experience, eval_streams=[])
        results.append(weights(strategy))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


class FailsOnce(SupervisedPlugin):
    """Fails in the middle of the third iteration."""

    iteration = 0

    def before_training_iteration(self, strategy, **kwargs):
        self.iteration += 1
        self.mean = weights(strategy)

    def before_backward(self, strategy, **kwargs):
        if self.iteration == 3:
            raise RuntimeError("out of memory")


@pytest.mark.parametrize("then", ["train", "eval"])
def test_a_failed_iteration_leaves_no_draw_behind(then):
    benchmark = digits(n_experiences=5, train_size=40)
    fails = FailsOnce()

    class Look(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            self.seen = strategy.model.classifier.classifier.weight[:2].clone()

        def before_eval_exp(self, strategy, **kwargs):
            self.seen = weights(strategy)

    look = Look()
    strategy = make_naive(BGDPlugin(initial_std=0.1), fails, look, model=Growing())
    with pytest.raises(RuntimeError, match="out of memory"):
        strategy.train(benchmark.train_stream[0], eval_streams=[])
    mean = fails.mean
    assert not torch.equal(weights(strategy), mean)
    if then == "eval":
        strategy.eval(benchmark.test_stream[:1])
        assert torch.equal(look.seen, mean)
    else:  # the classifier grows, and must take the means over
        strategy.train(benchmark.train_stream[1], eval_streams=[])
        assert torch.equal(look.seen.flatten(), mean[-34:-2])


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([DRLPlugin()], ".DRLPlugin. cannot be combined with .BGDPlugin.*criterion alone"),
        ([MGEMPlugin()], ".MGEMPlugin. cannot"),
        ([BGDPlugin()], ".BGDPlugin. cannot be combined with .BGDPlugin"),
        ([HALPlugin(20)], ".HALPlugin. cannot"),
        ([theirs.EWCPlugin(ewc_lambda=1.0)], ".EWCPlugin. cannot"),
        ([theirs.AGEMPlugin(10, 10)], ".AGEMPlugin. cannot"),
        ([OnlineReplayPlugin(loss="sum")], "OnlineReplayPlugin has loss='sum'.*'union'"),
        ([OnlineReplayPlugin(loss="separate")], "has loss='separate'"),
    ],
)
def test_what_it_would_ignore_is_refused_before_training(others, reason):
    for plugins in ([BGDPlugin(), *others], [*others, BGDPlugin()]):
        strategy = make_naive(*plugins)
        before = weights(strategy)
        with pytest.raises(ValueError, match=reason):
            train(strategy, digits(**SMALL))
        assert torch.equal(weights(strategy), before)


def test_avalanches_replay_goes_with_it():
    with_replay, alone = (
        make_naive(BGDPlugin(n_draws=2, initial_std=0.1), *more)
        for more in ([theirs.ReplayPlugin(mem_size=20)], [])
    )
    for strategy in (with_replay, alone):
        train(strategy, digits(**SMALL))
    assert torch.isfinite(weights(with_replay)).all()
    assert not torch.equal(weights(with_replay), weights(alone))


@pytest.mark.parametrize("amount", [0.5, 1e-2])
def test_a_penalty_of_unknown_origin_is_named_and_changes_nothing(amount):
    class Penalty(SupervisedPlugin):
        def before_backward(self, strategy, **kwargs):
            strategy.loss += amount

    strategy = make_naive(Penalty(), BGDPlugin(initial_std=0.1))
    before = weights(strategy)
    with pytest.raises(ValueError, match=r"the loss is .* but the criterion .*remove the plugin"):
        train(strategy, digits(**SMALL))
    assert torch.equal(weights(strategy), before)


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(weight=torch.arange(1.0, 11.0)),
        nn.CrossEntropyLoss(ignore_index=0),
    ],
)
def test_a_criterion_that_is_no_mean_over_rows_is_refused(criterion):
    strategy = make_naive(BGDPlugin(initial_std=0.1), criterion=criterion)
    before = weights(strategy)
    with pytest.raises(ValueError, match=r"needs a criterion that is a mean over rows"):
        train(strategy, digits(**SMALL))
    assert torch.equal(weights(strategy), before)


class Averaging(nn.CrossEntropyLoss):
    """Has torch's attribute for the reduction, but averages whatever it is."""

    def forward(self, outputs, y):
        return nn.functional.cross_entropy(outputs, y)


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(label_smoothing=0.1),
        Averaging(),
        lambda outputs, y: nn.functional.multi_margin_loss(outputs, y),
    ],
)
def test_any_mean_over_rows_is_a_criterion(criterion):
    strategy = make_naive(BGDPlugin(initial_std=0.1), criterion=criterion)
    before = weights(strategy)
    train(strategy, digits(**SMALL))
    assert not torch.equal(weights(strategy), before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_draws": 0},
        {"n_draws": 2.5},
        {"initial_std": 0.0},
        {"initial_std": float("inf")},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"seed": "one"},
    ],
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        BGDPlugin(**arguments)
