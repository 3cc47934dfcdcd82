"""Gradients and representations of pairs: of which samples, and that nothing else is touched."""

import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.models import as_multitask
from avalanche.models.utils import avalanche_model_adaptation
from torch import nn

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.functional.representation.diversity import (
    cosines,
    gradient_cosines,
    pairs_by_kind,
)
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    GradientDiversityPlugin,
    diagnostics,
    exhibits,
)
from avalanche_ext.plugins.analysis import gradient_diversity
from tests.cases import digits, make_naive, plain_benchmark, quiet, small_model, train, weights

SMALL = {"n_experiences": 2, "train_size": 30}


class Keeper(SupervisedPlugin):
    """Keeps a copy of the model after each experience; list it last."""

    def __init__(self):
        super().__init__()
        self.models = []

    def after_training_exp(self, strategy, **kwargs):
        self.models.append(deepcopy(strategy.model))


def analysed(*others, model=None, benchmark=None, **arguments):
    """The plugin, its numbers after each experience, and the model at that time."""
    plugin, keeper, told = GradientDiversityPlugin(**arguments), Keeper(), []
    strategy = make_naive(*others, plugin, keeper, model=model)
    for experience in (digits(**SMALL) if benchmark is None else benchmark).train_stream:
        strategy.train(experience, eval_streams=[])
        told.append(plugin.diagnostics())
    return plugin, told, keeper.models


def hidden_of(model, x):
    """Both hidden layers after their activations and the logits, of `small_model`."""
    first = torch.relu(model.hidden[0](x.flatten(1)))
    second = torch.relu(model.hidden[2](first))
    return torch.cat([first, second, model.classifier(second)], 1).detach()


def expected_numbers(model, x, y, hidden, t=None):
    classes = y if t is None else 100 * t + y  # Heads count their classes from 0.
    pairs = pairs_by_kind(gradient_cosines(model, x, y, t=t), cosines(hidden), classes)
    return {
        f"gradient_diversity/{kind}/{name}": pytest.approx(value, rel=1e-4)
        for kind, of_kind in pairs.items()
        for name, value in of_kind.numbers().items()
        if math.isfinite(value)
    }


def test_pairs_are_of_all_experiences_seen_with_gradients_of_the_model_as_it_is():
    benchmark = digits(**SMALL)
    _, told, models = analysed(benchmark=benchmark)
    data = [experience.dataset for experience in benchmark.train_stream]
    for seen in (1, 2):
        x, y = torch.cat([d.x for d in data[:seen]]), torch.cat([d.y for d in data[:seen]])
        model = models[seen - 1].eval()
        assert told[seen - 1] == expected_numbers(model, x, y, hidden_of(model, x))


def test_samples_are_drawn_once_from_each_experience_whatever_is_replayed():
    benchmark = digits(n_experiences=5, train_size=40)
    replay = BalancedReplayPlugin(mem_size=20, batch_size=10)
    _, told, models = analysed(replay, benchmark=benchmark, n_samples=6, seed=2)
    generator, x, y = torch.Generator().manual_seed(2), [], []
    for numbers, model, experience in zip(told, models, benchmark.train_stream, strict=True):
        rows = torch.randperm(40, generator=generator)[:6].sort().values
        x.append(experience.dataset.x[rows])
        y.append(experience.dataset.y[rows])
        both = torch.cat(x), torch.cat(y)
        assert numbers == expected_numbers(model, *both, hidden_of(model, both[0]))


def test_an_experience_that_is_learned_again_keeps_its_samples():
    plugin = GradientDiversityPlugin(n_samples=9)
    strategy = make_naive(plugin)
    # Of a model that stays, the same samples have the same cosines.
    strategy.optimizer.param_groups[0]["lr"] = 0.0
    first, second = digits(**SMALL).train_stream
    seen = []
    for experience in (first, second, first, second):
        strategy.train(experience, eval_streams=[])
        seen.append(plugin.pairs)
    n_pairs = [sum(len(each.gradients) for each in pairs.values()) for pairs in seen]
    assert n_pairs == [9 * 8 / 2] + [18 * 17 / 2] * 3
    for again in seen[2:]:
        for kind, pairs in seen[1].items():
            assert torch.equal(again[kind].gradients, pairs.gradients)
            assert torch.equal(again[kind].representations, pairs.representations)
    assert exhibits([plugin])["gradient_diversity"]["experience"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("layers", "columns"),
    [(["logits"], slice(48, 58)), (["hidden.3"], slice(32, 48))],
)
def test_layers_can_be_chosen(layers, columns):
    benchmark = digits(**SMALL)
    _, told, (model, _) = analysed(benchmark=benchmark, layers=layers)
    data = benchmark.train_stream[0].dataset
    assert dict(model.named_modules())["hidden.3"].__class__ is nn.ReLU
    hidden = hidden_of(model, data.x)[:, columns]
    assert told[0] == expected_numbers(model, data.x, data.y, hidden)


def with_heads(masking):
    """A model with a head for each task, which masks units that are not in use, or not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = as_multitask(MLP([16], input_shape=(1, 8, 8), n_classes=10), "classifier")
    model.classifier.masking = masking
    return model


@pytest.mark.parametrize("layers", [None, ["model.hidden.1", "logits"]])
@pytest.mark.parametrize("masking", [True, False])
@pytest.mark.parametrize("eval_mb_size", [7, 30])
def test_heads_are_chosen_by_the_tasks_of_the_samples(eval_mb_size, masking, layers):
    benchmark = digits(scenario="task", n_experiences=2, train_size=20)
    plugin, keeper = GradientDiversityPlugin(layers=layers), Keeper()
    strategy = make_naive(plugin, keeper, model=with_heads(masking), eval_mb_size=eval_mb_size)
    train(strategy, benchmark)
    data = [experience.dataset for experience in benchmark.train_stream]
    x, y, t = (torch.cat([getattr(d, name) for d in data]) for name in "xyt")
    model = keeper.models[-1].eval()
    hidden = torch.relu(model.model.hidden[0](x.flatten(1)))
    if layers:
        logits = model(x, t)
        hidden = torch.cat([hidden, logits.masked_fill(logits == -1000, 0)], 1)
    hidden = hidden.detach()
    assert plugin.diagnostics() == expected_numbers(model, x, y, hidden, t)


@pytest.mark.parametrize("masking", [True, False])
@pytest.mark.parametrize("silent", [0, 1])
def test_samples_of_a_task_whose_head_is_silent_have_no_cosines(silent, masking):
    benchmark = digits(scenario="task", n_experiences=2, train_size=20)
    model, plugin = with_heads(masking), GradientDiversityPlugin(layers=["logits"])
    for experience in benchmark.train_stream:
        avalanche_model_adaptation(model, experience)
    for p in model.classifier.classifiers[str(silent)].parameters():
        nn.init.zeros_(p)
    strategy = make_naive(plugin, model=model, eval_mb_size=7)
    strategy.optimizer.param_groups[0]["lr"] = 0.0
    train(strategy, benchmark)
    y = benchmark.train_stream[1 - silent].dataset.y
    n_positive = sum(n * (n - 1) // 2 for n in torch.bincount(y).tolist())
    assert {kind: len(pairs.gradients) for kind, pairs in plugin.pairs.items()} == {
        "negative": 20 * 19 // 2 - n_positive,
        "positive": n_positive,
    }


def noisy_model():
    """With layers that draw and that keep statistics, and one that is not to be trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(16, 16), nn.Linear(16, 10))
    model[5].requires_grad_(False)
    return model


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_is_trained_is_bitwise_the_same(momentum):
    def final(*plugins):
        torch.manual_seed(7)
        model = noisy_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
        plugins = [InMemoryLoaders(), *plugins, DRLPlugin(lam=0.01)]
        strategy = quiet(model=model, optimizer=optimizer, plugins=plugins)
        modes = []
        for experience in digits("permuted", n_experiences=3, train_size=40).train_stream:
            strategy.train(experience, eval_streams=[])
            modes.append([module.training for module in strategy.model.modules()])
        return strategy.model.state_dict(), torch.get_rng_state(), modes

    plugin = GradientDiversityPlugin(n_samples=20)
    (state, rng, modes), (plain, plain_rng, plain_modes) = final(plugin), final()
    assert len(plugin.exhibits()["gradient_diversity"]["experience"]) == 3
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    assert torch.equal(rng, plain_rng)
    assert modes == plain_modes


def test_draws_of_the_data_sets_own_transforms_leave_the_global_generator_alone():
    trained = []
    for plugins in ([], [GradientDiversityPlugin(n_samples=9)]):
        benchmark = plain_benchmark(digits(**SMALL), lambda x: x + torch.rand(()))
        torch.manual_seed(0)
        strategy = make_naive(*plugins)
        train(strategy, benchmark)
        trained.append(weights(strategy))
    assert torch.equal(*trained)


def test_on_an_online_stream_pairs_are_compared_when_the_last_part_is_learned():
    benchmark = digits(**SMALL)
    plugin, keeper = GradientDiversityPlugin(), Keeper()
    strategy = make_naive(plugin, keeper)
    told = []
    for part in split_online_stream(benchmark.train_stream, 10, seed=0):
        strategy.train(part, eval_streams=[])
        told.append(plugin.diagnostics())
    assert [bool(numbers) for numbers in told] == [False, False, True] * 2
    data, model = benchmark.train_stream[0].dataset, keeper.models[2]
    assert told[2] == expected_numbers(model, data.x, data.y, hidden_of(model, data.x))
    assert exhibits([plugin])["gradient_diversity"]["experience"].tolist() == [0, 1]


def test_exhibits_are_the_numbers_of_all_experiences_and_the_pairs_after_the_last():
    plugin, told, _ = analysed(n_samples=12)
    arrays = exhibits([plugin])["gradient_diversity"]
    assert arrays["experience"].tolist() == [0, 1]
    names = [f"gradient_diversity/{name}" for name in arrays["name"].tolist()]
    for row, numbers in zip(arrays["numbers"].tolist(), told, strict=True):
        found = dict(zip(names, row, strict=True))
        assert {name: x for name, x in found.items() if math.isfinite(x)} == numbers
    n_pairs = 0
    for kind, pairs in plugin.pairs.items():
        assert arrays[kind].dtype == np.float32
        expected = torch.stack([pairs.gradients, pairs.representations]).float().T
        assert sorted(arrays[kind].T.tolist()) == sorted(expected.tolist())
        n_pairs += arrays[kind].shape[1]
    assert n_pairs == 24 * 23 / 2


def test_of_many_pairs_as_many_are_kept_as_are_allowed(monkeypatch):
    monkeypatch.setattr(gradient_diversity, "MOST_PAIRS", 20)
    plugin, _, _ = analysed(n_samples=12)
    arrays = exhibits([plugin])["gradient_diversity"]
    for kind, pairs in plugin.pairs.items():
        both = torch.stack([pairs.gradients, pairs.representations]).float().T
        kept = {tuple(pair) for pair in arrays[kind].T.tolist()}
        assert len(kept) == 20 < len(both)
        assert kept <= {tuple(pair) for pair in both.tolist()}
        assert arrays[kind].T.tolist() != both[:20].tolist()


def test_nothing_is_reported_before_an_experience_has_been_learned():
    plugin = GradientDiversityPlugin()
    assert plugin.diagnostics() == plugin.exhibits() == {}


@pytest.mark.parametrize("value", [math.nan, 1e38])
def test_a_model_that_is_not_finite_has_no_numbers(value):
    model = small_model()
    model.classifier.weight.data *= value
    plugin = GradientDiversityPlugin(n_samples=9)
    strategy = make_naive(plugin, model=model)
    strategy.optimizer.param_groups[0]["lr"] = 0.0
    strategy.train(digits(**SMALL).train_stream[0], eval_streams=[])
    assert plugin.diagnostics() == {}
    assert plugin.exhibits()["gradient_diversity"]["negative"].shape == (2, 0)


def test_draws_depend_on_the_seed_alone():
    def told(seed):
        torch.manual_seed(seed + 5)
        strategy = make_naive(GradientDiversityPlugin(n_samples=10, seed=seed))
        strategy.train(digits(**SMALL).train_stream[0], eval_streams=[], shuffle=False)
        return diagnostics(strategy.plugins)

    assert told(0) == told(0)
    assert told(0) != told(1)


def test_a_pickle_continues_as_if_nothing_had_happened():
    first, second = digits(**SMALL).train_stream
    results = []
    for again in (lambda it: it, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = GradientDiversityPlugin(n_samples=10)
        torch.manual_seed(0)
        strategy = make_naive(plugin)
        strategy.train(first, eval_streams=[])
        place = strategy.plugins.index(plugin)
        strategy.plugins[place] = plugin = again(plugin)
        strategy.train(second, eval_streams=[])
        results.append((exhibits([plugin])["gradient_diversity"], weights(strategy)))
    for one, other in zip(*(arrays.values() for arrays, _ in results), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"n_samples": 2.5}, {"layers": "logits"}])
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GradientDiversityPlugin(**wrong)


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match=r"layers=\[\] names no layer"):
        GradientDiversityPlugin(layers=[])


def test_an_unknown_layer_is_named_before_training():
    strategy = make_naive(GradientDiversityPlugin(layers=["hidden.7"]))
    before = weights(strategy)
    with pytest.raises(ValueError, match=r"no module 'hidden.7'.*hidden\.0"):
        train(strategy, digits())
    assert torch.equal(weights(strategy), before)
