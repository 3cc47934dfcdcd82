"""EWC with Kronecker factors through a strategy."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch import nn

from avalanche_ext.config.components import component
from avalanche_ext.functional import kronecker_fisher
from avalanche_ext.models import MLP
from avalanche_ext.models.features import with_heads
from avalanche_ext.plugins import KroneckerEWCPlugin, OnlineEWCPlugin
from tests.cases import digits, make_naive, weights
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


def estimates(strategy, benchmark, **given):
    """Train, and return the Fisher after each experience."""
    fishers = []
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
        dataset = experience.dataset
        fishers.append(kronecker_fisher(strategy.model, dataset.x, dataset.y, **given))
    return fishers


def assert_same(found, expected):
    torch.testing.assert_close(dense(found), dense(expected), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", ["true", "empirical"])
@pytest.mark.parametrize("merge", ["sum", "nearest"])
def test_it_keeps_what_the_tasks_fishers_merge_to(merge, kind):
    plugin = KroneckerEWCPlugin(3.0, 0.9, merge=merge, kind=kind, damping=0.01)
    first, *others = estimates(naive(plugin), three_tasks(), kind=kind)
    expected = replace(first.damped(0.01), merge=merge)
    for fisher in others:
        expected = expected.merged(fisher.damped(0.01), 0.9)
    assert_same(plugin.curvature, expected)


def test_without_merging_it_keeps_the_factors_of_each_task():
    plugin = KroneckerEWCPlugin(3.0, 0.9, merge="none")
    fishers = estimates(naive(plugin), three_tasks())
    total = sum(w * dense(f) for w, f in zip((0.81, 0.9, 1.0), fishers, strict=True))
    torch.testing.assert_close(dense(plugin.curvature), total, rtol=1e-4, atol=1e-8)
    assert len(plugin.curvature.terms) == 3


def test_memory_is_at_most_twice_that_of_the_factors_and_the_anchor():
    plugin = KroneckerEWCPlugin(3.0, rank=None)
    run(plugin)
    n_factors = 65**2 + 6**2 + 7**2 + 10**2
    n_parameters = sum(p.numel() for p in tiny().parameters())
    megabytes = plugin.diagnostics()["kronecker_ewc/megabytes"]
    assert 4e-6 * n_factors < megabytes - 4e-6 * n_parameters <= 4e-6 * (2 * n_factors + 88)


@pytest.mark.parametrize("name", EACH)
def test_a_pull_stands_for_several_iterations_and_the_last_for_those_left_over(name):
    """Of six iterations the fourth pulls for four, and the end of the experience for two."""
    plugin, step = EACH[name](STRENGTH[name] * 10, interval=4), AfterTheStep()
    pulls = []

    class Check(Iterations):
        def check_step(self, strategy):
            delta = (step.weights - plugin.anchor).double()
            system = 4 * 0.05 * plugin.lam * dense(plugin.curvature)
            expected = torch.linalg.solve(torch.eye(len(delta)) + system, delta)
            actual = (weights(strategy) - plugin.anchor).double()
            pulls.append(not torch.equal(weights(strategy), step.weights))
            if pulls[-1]:
                assert (actual - expected).norm() < 1e-4 * delta.norm()
            self.last = (step.weights, plugin.anchor, plugin.curvature)

    strategy = naive(step, plugin, check := Check(plugin))
    first, second, _ = three_tasks(train_size=60).train_stream
    strategy.train(first, eval_streams=[], shuffle=False)
    strategy.train(second, eval_streams=[], shuffle=False)
    assert pulls == [False, False, False, True, False, False]
    learned, anchor, curvature = check.last
    delta = (learned - anchor).double()
    system = 2 * 0.05 * plugin.lam * dense(curvature)
    expected = torch.linalg.solve(torch.eye(len(delta)) + system, delta)
    assert ((weights(strategy) - anchor).double() - expected).norm() < 1e-4 * delta.norm()


def test_a_pull_uses_as_many_eigenvectors_as_configured():
    ends = {
        rank: weights(run(KroneckerEWCPlugin(30.0, rank=rank, interval=2)))
        for rank in (1, 100, None)
    }
    assert torch.equal(ends[100], ends[None])  # The largest factor has 65 rows.
    assert not torch.allclose(ends[1], ends[None], atol=1e-3)


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 10))


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_positions_are_shared_as_configured(sharing):
    plugin = KroneckerEWCPlugin(3.0, 1.0, sharing=sharing)
    strategy = naive(plugin, model=convolutional())
    (fisher,) = estimates(strategy, three_tasks(n_experiences=1), sharing=sharing)
    assert_same(plugin.curvature, fisher)


def test_labels_that_it_draws_follow_from_its_seed():
    found = []
    for seed in (0, 0, 1):
        run(plugin := KroneckerEWCPlugin(3.0, kind="sampled", seed=seed))
        found.append(dense(plugin.curvature))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=0.01)


class DarkLater(SupervisedPlugin):
    """Sets the upper half of each image to zero from the second experience on."""

    def before_forward(self, strategy, **kwargs):
        if strategy.clock.train_exp_counter:
            strategy.mbatch[0] = strategy.mb_x.clone()
            strategy.mbatch[0][:, :, :4] = 0


def test_weights_without_gradients_do_not_freeze_their_layer():
    """Adam, made anew, has a rate of lr/ε for the weights of dark pixels."""
    moved = {}
    for update in ("proximal", "gradient"):
        plugin = KroneckerEWCPlugin(10.0, 1.0, update=update)
        strategy = naive(DarkLater(), plugin)
        for experience in three_tasks(n_experiences=2, train_size=200).train_stream:
            strategy.optimizer = torch.optim.Adam(strategy.model.parameters(), lr=1e-3)
            before = strategy.model.hidden[0].weight.detach().clone()
            strategy.train(experience, eval_streams=[], shuffle=False)
        moved[update] = float((strategy.model.hidden[0].weight.detach() - before).norm())
    assert moved["proximal"] > 0.75 * moved["gradient"]


@pytest.mark.parametrize("merge", ["sum", "nearest", "none"])
@pytest.mark.parametrize("scenario", ["class", "task"])
def test_under_adam_on_heads_that_grow_each_merge_lets_the_new_be_learned(merge, scenario):
    benchmark = digits("split", train_size=60, scenario=scenario)
    plugin = KroneckerEWCPlugin(1.0, merge=merge)
    model = MLP([20], input_shape=(1, 8, 8), n_classes=10)
    model = with_heads(model, (1, 8, 8)) if scenario == "task" else model
    strategy = naive(plugin, model=model, optimizer=partial(torch.optim.Adam, lr=0.01))
    strategy.train_epochs = 3
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    assert plugin.diagnostics()["kronecker_ewc/penalty"] > 0
    assert all(p.isfinite().all() for p in strategy.model.parameters())


@pytest.mark.parametrize("name", EACH)
def test_along_the_gradient_no_iteration_is_left_out(name):
    with pytest.raises(ValueError, match="interval=2: must be 1 with update='gradient'"):
        EACH[name](1.0, update="gradient", interval=2)


@pytest.mark.parametrize(
    "name", ["online_ewc", "fisher_spectrum_ewc", "mas", "synaptic_intelligence"]
)
def test_a_yaml_without_an_interval_is_the_component_it_was(name):
    """So results that were kept before there were intervals are not run again."""
    made = [
        component("plugin", name, {**given}, path="p", name_path="p")[0]
        for given in ({}, {"interval": 1}, {"interval": 2})
    ]
    assert made[0] == made[1]
    assert "interval" not in made[0].args
    assert made[2].args["interval"] == 2


def test_by_default_a_pull_stands_for_ten_iterations_and_a_gradient_for_one():
    assert KroneckerEWCPlugin().interval == 10
    assert KroneckerEWCPlugin(update="gradient").interval == 1


def test_it_remembers_what_the_diagonal_forgets():
    accuracies = []
    for plugin in (OnlineEWCPlugin(10.0, 1.0), KroneckerEWCPlugin(10.0, 1.0)):
        benchmark = digits("permuted", n_experiences=4, train_size=500)
        strategy = make_naive(plugin)
        strategy.train_epochs = 2
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], shuffle=False)
        right = [
            (strategy.model(e.dataset.x).argmax(1) == e.dataset.y).double().mean()
            for e in benchmark.test_stream
        ]
        accuracies.append(float(torch.stack(right).mean()))
    assert accuracies[1] > accuracies[0] + 0.1
