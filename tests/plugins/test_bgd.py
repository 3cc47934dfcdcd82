"""Bayesian gradient descent through a strategy."""

from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import BGDPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.plugins.bgd_cases import SMALL, Growing, normalising, run_beside_a_loop


@pytest.mark.parametrize("arguments", [{}, {"n_draws": 1}, {"lr": 0.3, "initial_std": 0.02}])
def test_every_iteration_is_that_of_an_independent_loop(arguments):
    run_beside_a_loop(small_model(), digits(**SMALL), **arguments)


def test_replayed_rows_count_as_those_of_the_stream():
    memory = OnlineReplayPlugin(mem_size=20, batch_size=5)
    run_beside_a_loop(small_model(), digits(**SMALL), memory)
    assert memory.slots.size == 5


def test_classifiers_that_grow_keep_what_they_know_of_earlier_classes():
    model = Growing()
    _, plugin = run_beside_a_loop(model, digits(n_experiences=5, train_size=20))
    assert model.classifier.classifier.out_features == 10
    assert plugin.std["classifier.classifier.weight"].shape == (10, 16)


def test_a_parameter_that_is_new_begins_with_the_initial_deviation():
    plugin, model = BGDPlugin(initial_std=0.125, n_draws=2), Growing()
    first, second, *_ = digits(n_experiences=5, train_size=20).train_stream
    strategy = make_naive(plugin, model=model)
    strategy.train(first, eval_streams=[])
    before = plugin.std["classifier.classifier.weight"].clone()
    assert (before != 0.125).any()

    class Look(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            if strategy.clock.train_exp_iterations == 0:
                self.seen = plugin.std["classifier.classifier.weight"]

    look = Look()
    strategy.plugins.insert(0, look)
    strategy.train(second, eval_streams=[])
    assert torch.equal(look.seen[:2], before)
    assert (look.seen[2:] == 0.125).all()


def test_a_head_for_each_task():
    model = mlp([16], multi_head=True, input_shape=(1, 8, 8), n_classes=2)
    benchmark = split_digits(n_experiences=5, train_size=20, scenario="task")
    run_beside_a_loop(model, benchmark)


def test_frozen_parameters_stay():
    model = small_model()
    model.hidden[0].weight.requires_grad_(False)
    before = model.hidden[0].weight.clone()
    plugin = BGDPlugin(initial_std=0.1)
    train(make_naive(plugin, model=model), digits(**SMALL))
    assert torch.equal(model.hidden[0].weight, before)
    assert "hidden.0.weight" not in plugin.std


def test_parameters_that_another_plugin_freezes_stay_and_keep_their_deviation():
    class Freezing(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            is_second = strategy.experience.current_experience == 1
            strategy.model.hidden.requires_grad_(not is_second)

    plugin, model = BGDPlugin(initial_std=0.1), small_model()
    strategy = make_naive(plugin, Freezing(), model=model)
    learned = []
    for experience in digits("permuted", n_experiences=3, train_size=30).train_stream:
        strategy.train(experience, eval_streams=[])
        mean, std = model.hidden[0].weight, plugin.std["hidden.0.weight"]
        learned.append((mean.detach().clone(), std.clone()))
    for first, second, third in zip(*learned, strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(second, third)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.5, weight_decay=0.1),
    ],
    ids=["momentum", "adam"],
)
def test_the_optimizer_has_no_influence_and_keeps_its_state(make, first):
    model = small_model()
    optimizer = make(model.parameters())
    if not first:  # as if it had been used before
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        model.load_state_dict(small_model().state_dict())
    before = deepcopy(optimizer.state_dict())
    results = []
    for other in (None, optimizer):
        strategy = make_naive(BGDPlugin(initial_std=0.1), model=model if other else small_model())
        strategy.optimizer = other or strategy.optimizer
        # Avalanche itself empties the optimizer's state when training begins.
        strategy.make_optimizer = lambda **kwargs: None
        train(strategy, digits(**SMALL))
        results.append(weights(strategy))
    assert torch.equal(*results)
    after = optimizer.state_dict()
    assert before["state"].keys() == after["state"].keys()
    for key, state in before["state"].items():
        for name, value in state.items():
            assert value is None or torch.equal(value, after["state"][key][name])


def test_normalisation_counts_each_mini_batch_once():
    class Count(Spy):
        def before_forward(self, strategy, **kwargs):
            super().before_forward(strategy)
            self.before = deepcopy(strategy.model[2].state_dict())

        def after_forward(self, strategy, **kwargs):
            self.once = deepcopy(strategy.model[2].state_dict())

        def after_update(self, strategy, **kwargs):
            now = strategy.model[2].state_dict()
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                assert torch.equal(now[name], self.once[name])
                assert not torch.equal(now[name], self.before[name])
            self.checked += 1

    count = Count()
    strategy = make_naive(BGDPlugin(initial_std=0.1), count, model=normalising())
    train(strategy, digits(**SMALL))
    assert count.checked == strategy.model[2].num_batches_tracked == 6


def test_models_with_normalisation_learn_as_the_loop_does():
    run_beside_a_loop(normalising(), digits(**SMALL))


def test_parameters_are_the_means_between_iterations_and_a_draw_within():
    class Look(Spy):
        def before_training_iteration(self, strategy, **kwargs):
            self.mean = weights(strategy)

        def before_backward(self, strategy, **kwargs):
            assert not torch.equal(weights(strategy), self.mean)
            self.checked += 1

        def after_training_iteration(self, strategy, **kwargs):
            # With a step as small as this, what is left is what was put back.
            assert (weights(strategy) - self.mean).abs().max() < 1e-12

    look = Look()
    train(make_naive(BGDPlugin(initial_std=1e-3, lr=1e-12), look), digits(**SMALL))
    assert look.checked == 6


def test_the_deviation_shrinks_while_it_learns():
    plugin = BGDPlugin(initial_std=0.1)
    assert plugin.diagnostics() == {}
    strategy = make_naive(plugin)
    seen = []
    for experience in digits("permuted", n_experiences=3).train_stream:
        strategy.train(experience, eval_streams=[])
        seen.append(plugin.diagnostics()["bgd/std"])
    assert 0.1 > seen[0] > seen[1] > seen[2] > 0
    deviations = torch.cat([std.flatten() for std in plugin.std.values()])
    assert seen[-1] == pytest.approx(float(deviations.mean()))


def test_it_learns_digits():
    experience = digits("permuted", n_experiences=1)
    strategy = make_naive(BGDPlugin(initial_std=0.15), train_epochs=4)
    train(strategy, experience)
    assert accuracy(strategy, experience.test_stream[0].dataset) > 0.8


def accuracy(strategy, dataset):
    strategy.model.eval()
    return float((strategy.model(dataset.x).argmax(1) == dataset.y).float().mean())
