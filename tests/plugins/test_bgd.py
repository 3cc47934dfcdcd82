"""Bayesian gradient descent through a strategy."""

import pickle
from copy import deepcopy

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier, avalanche_forward
from avalanche.training import plugins as theirs
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import BGDPlugin, DRLPlugin, HALPlugin, MGEMPlugin, OnlineReplayPlugin
from tests.cases import Spy, digits, make_naive, small_model, train, weights
from tests.oracles import bayesian_step_by_loops

SMALL = {"n_experiences": 2, "train_size": 30}


class Growing(nn.Module):
    """A classifier with outputs for the classes seen so far."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
            self.classifier = IncrementalClassifier(16, initial_out_features=1)

    def forward(self, x):
        return self.classifier(self.hidden(x))


def normalising() -> nn.Module:
    """A model with batch normalisation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
        )


class Expected(Spy):
    """Computes each iteration anew on copies of the model; list it before what it checks."""

    def __init__(self, n_draws, initial_std, lr, seed) -> None:
        super().__init__()
        self.n_draws, self.initial_std, self.lr = n_draws, initial_std, lr
        self.generator = torch.Generator().manual_seed(seed)
        self.std: dict[str, torch.Tensor] = {}
        self.model = None

    def before_training_exp(self, strategy, **kwargs):
        for name, p in strategy.model.named_parameters():
            std = torch.full_like(p, self.initial_std, requires_grad=False)
            if name in self.std:  # the rows of earlier classes are the first ones
                std[: len(self.std[name])] = self.std[name]
            self.std[name] = std

    def before_forward(self, strategy, **kwargs):
        super().before_forward(strategy)
        self.model = deepcopy(strategy.model)

    def after_update(self, strategy, **kwargs):
        x, y, t = strategy.mbatch
        mean = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        std = torch.cat([self.std[name].flatten() for name, _ in self.model.named_parameters()])
        draws = []
        for _ in range(self.n_draws):
            model = deepcopy(self.model)
            noise = torch.randn(len(mean), generator=self.generator)
            nn.utils.vector_to_parameters(mean + std * noise, model.parameters())
            total = 0.0
            for output, label in zip(avalanche_forward(model, x, t), y, strict=True):
                total = total + nn.functional.cross_entropy(output, label)
            total.backward()
            gradient = [
                torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()
            ]
            draws.append((torch.cat([g.flatten() for g in gradient]).tolist(), noise.tolist()))
        new_mean, new_std = bayesian_step_by_loops(mean.tolist(), std.tolist(), draws, self.lr)
        assert_near(weights(strategy), new_mean, mean)
        plugin = next(p for p in strategy.plugins if isinstance(p, BGDPlugin))
        actual = torch.cat([s.flatten() for s in plugin.std.values()])
        assert_near(actual, new_std, std)
        pieces = torch.split(actual, [p.numel() for p in self.model.parameters()])
        for (name, p), piece in zip(self.model.named_parameters(), pieces, strict=True):
            self.std[name] = piece.view_as(p).clone()
        self.checked += 1


def assert_near(actual, expected, before):
    """The change agrees to a thousandth."""
    expected = torch.tensor(expected)
    assert (actual - expected).norm() <= 1e-3 * (expected - before).norm()


def run_beside_a_loop(model, benchmark, *others, **arguments):
    given = {"n_draws": 3, "initial_std": 0.1, "lr": 1.0, "seed": 5, **arguments}
    plugin, expected = BGDPlugin(**given), Expected(**given)
    strategy = make_naive(*others, expected, plugin, model=model)
    train(strategy, benchmark)
    assert expected.checked >= 6
    return strategy, plugin


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
        def before_training_epoch(self, strategy, **kwargs):
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


def test_it_goes_on_from_a_copy_or_a_pickle_as_if_nothing_had_been():
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
        ([DRLPlugin()], "DRLPlugin cannot be combined with BGDPlugin.*criterion alone"),
        ([MGEMPlugin()], "MGEMPlugin cannot"),
        ([BGDPlugin()], "BGDPlugin cannot be combined with BGDPlugin"),
        ([HALPlugin(20)], "HALPlugin cannot"),
        ([theirs.EWCPlugin(ewc_lambda=1.0)], "EWCPlugin cannot"),
        ([theirs.AGEMPlugin(10, 10)], "AGEMPlugin cannot"),
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
