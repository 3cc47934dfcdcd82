"""The spectrum after each experience: what is computed of which samples, and that nothing else is
touched."""

import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.models import as_multitask
from torch import nn

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    BGDPlugin,
    DRLPlugin,
    SpectrumAnalysisPlugin,
    diagnostics,
    exhibits,
)
from tests.cases import digits, make_naive, plain_benchmark, quiet, train, weights
from tests.plugins.bgd_cases import Growing

SMALL = {"n_experiences": 2, "train_size": 30}


class Keeper(SupervisedPlugin):
    """Keeps a copy of the model after each experience; list it last."""

    def __init__(self):
        super().__init__()
        self.models = []

    def after_training_exp(self, strategy, **kwargs):
        self.models.append(deepcopy(strategy.model))


def dense_fisher(model, x, t=None):
    """The true Fisher, (P, P), sample by sample and class by class.

    Models with heads put them out in single precision; the others run in double.
    """
    dtype = torch.float64 if t is None else torch.float32
    model = deepcopy(model).to(dtype).eval()
    parameters = [p for p in model.parameters() if p.requires_grad]
    fisher = 0.0
    for i in range(len(x)):
        inputs = [x[i : i + 1].to(dtype), *([] if t is None else [t[i : i + 1]])]
        log_p = model(*inputs).log_softmax(1)[0]
        for c in range(len(log_p)):
            pieces = torch.autograd.grad(log_p[c], parameters, retain_graph=True, allow_unused=True)
            gradient = torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for g, p in zip(pieces, parameters, strict=True)
                ]
            )
            gradient = gradient.double()
            fisher = fisher + float(log_p[c].detach().exp()) * torch.outer(gradient, gradient)
    return fisher / len(x)


def analysed(*others, model=None, benchmark=None, **arguments):
    """The plugin after training, and the model as it was after each experience."""
    plugin, keeper = SpectrumAnalysisPlugin(**arguments), Keeper()
    strategy = make_naive(*others, plugin, keeper, model=model)
    train(strategy, digits(**SMALL) if benchmark is None else benchmark)
    return plugin, keeper.models


def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 10))


def check_against_dense(spectrum, fisher, sizes):
    """Compare with a dense decomposition; `sizes` are the parameters of each layer, in order."""
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(fisher))
    k = len(spectrum.eigenvalues)
    np.testing.assert_allclose(spectrum.eigenvalues, values[:k], rtol=1e-4)
    assert spectrum.trace == pytest.approx(float(values.sum()), rel=1e-4)
    known = spectrum.all_eigenvalues.double()
    n = min(len(known), len(values))
    np.testing.assert_allclose(known[:n], values[:n], rtol=1e-3, atol=1e-5 * float(values[0]))
    numbers = spectrum.numbers()
    assert numbers["share_top_k"] == pytest.approx(float(values[:k].sum() / values.sum()), 1e-4)
    of_samples = math.ceil(0.05 * len(known))
    assert numbers["share_5_percent_of_samples"] == pytest.approx(
        float(values[:of_samples].sum() / values.sum()), rel=1e-4
    )
    of_parameters = math.ceil(0.05 * len(values))
    assert numbers["share_5_percent_of_parameters"] == pytest.approx(
        float(values[:of_parameters].sum() / values.sum()), rel=1e-4
    )
    p = (values / values.sum()).clamp(min=1e-300)
    assert numbers["effective_rank"] == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-3)
    squares = torch.stack([rows.square().sum(0)[:k] for rows in vectors.split(sizes)])
    weighted = squares @ values[:k] / values[:k].sum()
    np.testing.assert_allclose([*spectrum.mass.values()], weighted, rtol=1e-3)
    np.testing.assert_allclose([*spectrum.unweighted_mass.values()], squares.mean(1), rtol=1e-3)


def test_each_spectrum_is_that_of_the_models_fisher_on_the_experience():
    benchmark = digits(**SMALL)
    plugin, models = analysed(model=tiny(), benchmark=benchmark, rank=8, kind="true")
    assert [spectrum.experience for spectrum in plugin.spectra] == [0, 1]
    for spectrum, model, experience in zip(
        plugin.spectra, models, benchmark.train_stream, strict=True
    ):
        assert [*spectrum.mass] == [*spectrum.unweighted_mass] == ["1", "3"]
        assert spectrum.sizes == {"1": 325, "3": 60}
        check_against_dense(spectrum, dense_fisher(model, experience.dataset.x), [325, 60])


def test_heads_are_chosen_by_the_tasks_of_the_samples():
    benchmark = digits(scenario="task", n_experiences=2, train_size=20)
    model = as_multitask(MLP([5], input_shape=(1, 8, 8), n_classes=10), "classifier")
    plugin, models = analysed(model=model, benchmark=benchmark, rank=5, kind="true")
    for spectrum, model, experience in zip(
        plugin.spectra, models, benchmark.train_stream, strict=True
    ):
        data = experience.dataset
        values = torch.linalg.eigvalsh(dense_fisher(model, data.x, data.t)).flip(0)
        np.testing.assert_allclose(spectrum.eigenvalues, values[:5], rtol=1e-4)


def test_samples_are_drawn_from_the_experience_whatever_is_replayed():
    benchmark = digits(n_experiences=2, train_size=40)
    replay = BalancedReplayPlugin(mem_size=20, batch_size=10)
    plugin, models = analysed(
        replay, model=tiny(), benchmark=benchmark, rank=3, n_samples=6, kind="true", seed=2
    )
    generator = torch.Generator().manual_seed(2)
    for spectrum, model, experience in zip(
        plugin.spectra, models, benchmark.train_stream, strict=True
    ):
        rows = torch.randperm(40, generator=generator)[:6]
        torch.randint(2**31, (), generator=generator)
        values = torch.linalg.eigvalsh(dense_fisher(model, experience.dataset.x[rows])).flip(0)
        np.testing.assert_allclose(spectrum.eigenvalues, values[:3], rtol=1e-4)


@pytest.mark.parametrize("kind", ["sampled", "true", "empirical"])
def test_there_are_as_many_eigenvalues_as_the_kind_has(kind):
    plugin, _ = analysed(model=tiny(), rank=1000, n_samples=12, kind=kind)
    for spectrum in plugin.spectra:
        assert len(spectrum.all_eigenvalues) == (120 if kind == "true" else 12)
        assert spectrum.numbers()["share_top_k"] == pytest.approx(1.0, rel=1e-5)
        assert sum(spectrum.mass.values()) == pytest.approx(1.0, rel=1e-5)


def noisy_model():
    """With layers that draw and that keep statistics, and one that is not to be trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(16, 16), nn.Linear(16, 10))
    model[5].requires_grad_(False)
    return model


@pytest.mark.parametrize("kind", ["sampled", "true", "empirical"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_is_trained_is_bitwise_the_same(kind, momentum):
    def final(*plugins):
        torch.manual_seed(7)
        model = noisy_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
        plugins = [InMemoryLoaders(), *plugins]
        strategy = quiet(model=model, optimizer=optimizer, plugins=plugins)
        modes = []
        for experience in digits("permuted", n_experiences=3, train_size=40).train_stream:
            strategy.train(experience, eval_streams=[])
            modes.append([module.training for module in strategy.model.modules()])
        return strategy.model.state_dict(), torch.get_rng_state(), modes

    plugin = SpectrumAnalysisPlugin(rank=5, n_samples=20, kind=kind)
    (state, rng, modes), (plain, plain_rng, plain_modes) = final(plugin), final()
    assert len(plugin.spectra) == 3
    assert all(torch.equal(state[name], plain[name]) for name in plain)
    assert torch.equal(rng, plain_rng)
    assert modes == plain_modes


def test_layers_that_are_not_trained_have_no_mass():
    plugin, _ = analysed(model=noisy_model(), rank=5)
    assert {*plugin.spectra[0].mass} == {"1", "2", "6"}


@pytest.mark.parametrize("others", [[BGDPlugin(n_draws=2, initial_std=0.1)], [DRLPlugin()]])
def test_it_goes_with_any_method(others):
    plugin, models = analysed(*others, model=tiny(), rank=3, kind="true")
    x = digits(**SMALL).train_stream[1].dataset.x
    values = torch.linalg.eigvalsh(dense_fisher(models[-1], x)).flip(0)
    np.testing.assert_allclose(plugin.spectra[-1].eigenvalues, values[:3], rtol=1e-4)


def test_on_an_online_stream_an_experience_is_analysed_when_its_last_part_is_learned():
    benchmark = digits(**SMALL)
    plugin, keeper = SpectrumAnalysisPlugin(rank=3, kind="true"), Keeper()
    strategy = make_naive(plugin, keeper, model=tiny())
    known = []
    for part in split_online_stream(benchmark.train_stream, 10, seed=0):
        strategy.train(part, eval_streams=[])
        known.append((len(plugin.spectra), bool(plugin.diagnostics())))
    assert known == [(0, False), (0, False), (1, True), (1, False), (1, False), (2, True)]
    assert [spectrum.experience for spectrum in plugin.spectra] == [0, 1]
    values = torch.linalg.eigvalsh(
        dense_fisher(keeper.models[2], benchmark.train_stream[0].dataset.x)
    ).flip(0)
    np.testing.assert_allclose(plugin.spectra[0].eigenvalues, values[:3], rtol=1e-4)


def test_draws_depend_on_the_seed_alone():
    def trace(seed):
        torch.manual_seed(seed + 5)
        strategy = make_naive(SpectrumAnalysisPlugin(n_samples=10, seed=seed))
        strategy.train(digits(**SMALL).train_stream[0], eval_streams=[], shuffle=False)
        return diagnostics(strategy.plugins)["spectrum/trace"]

    assert trace(0) == trace(0)
    assert trace(0) != trace(1)


def test_a_model_that_is_not_finite_is_passed_over():
    plugin = SpectrumAnalysisPlugin(rank=3)
    strategy = make_naive(plugin, model=tiny())
    first, second = digits(**SMALL).train_stream
    strategy.train(first, eval_streams=[])
    strategy.model[1].weight.data[0, 0] = math.nan
    strategy.train(second, eval_streams=[])
    assert len(plugin.spectra) == 1
    assert plugin.diagnostics() == {}


def test_numbers_have_names_and_those_that_are_not_defined_are_left_out():
    plugin, _ = analysed(model=tiny(), rank=12)
    told = plugin.diagnostics()
    assert all(name.startswith("spectrum/") and math.isfinite(x) for name, x in told.items())
    assert {name.removeprefix("spectrum/") for name in told} == {
        *(f"lambda_{i}" for i in (1, 2, 5, 10)),
        "trace",
        "share_top_k",
        "share_5_percent_of_samples",
        "share_5_percent_of_parameters",
        "effective_rank",
        "log_decay",
        "log_decay_r2",
        *(f"{mass}/{layer}" for mass in ("mass", "unweighted_mass") for layer in ("1", "3")),
    }
    assert told["spectrum/lambda_5"] == float(plugin.spectra[-1].eigenvalues[4])
    assert told["spectrum/log_decay"] < 0
    few, _ = analysed(model=tiny(), rank=2)
    assert {"spectrum/log_decay", "spectrum/lambda_5"}.isdisjoint(few.diagnostics())
    assert SpectrumAnalysisPlugin().diagnostics() == SpectrumAnalysisPlugin().exhibits() == {}


def test_exhibits_are_the_numbers_of_all_experiences():
    plugin, _ = analysed(model=tiny(), rank=4, n_samples=9)
    arrays = exhibits([plugin])["spectrum"]
    assert arrays["experience"].tolist() == [0, 1]
    assert arrays["layer"].tolist() == ["1", "3"]
    assert arrays["eigenvalues"].shape == (2, 4)
    assert arrays["all_eigenvalues"].shape == (2, 9)
    for i, spectrum in enumerate(plugin.spectra):
        np.testing.assert_array_equal(arrays["eigenvalues"][i], spectrum.eigenvalues.double())
        assert arrays["trace"][i] == spectrum.trace
        assert arrays["size"][i].tolist() == [325, 60]
        assert arrays["mass"][i].tolist() == [*spectrum.mass.values()]
        assert arrays["unweighted_mass"][i].tolist() == [*spectrum.unweighted_mass.values()]
        numbers = dict(zip(arrays["name"].tolist(), arrays["numbers"][i].tolist(), strict=True))
        np.testing.assert_equal(numbers, spectrum.numbers())


def test_a_model_that_grows_has_a_spectrum_of_all_its_parameters():
    plugin, models = analysed(model=Growing(), rank=4, n_samples=9)
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert [sum(spectrum.sizes.values()) for spectrum in plugin.spectra] == sizes
    assert sizes[0] < sizes[1]
    assert exhibits([plugin])["spectrum"]["mass"].shape == (2, 2)


class Unruled(nn.Linear):
    """A layer of an unknown kind."""

    def forward(self, x):
        return super().forward(x).tanh()


def test_where_not_all_eigenvalues_are_to_be_had_the_largest_are():
    benchmark, model = digits(**SMALL), nn.Sequential(nn.Flatten(), Unruled(64, 10))
    with pytest.warns(UserWarning, match="Unruled"):
        plugin, models = analysed(model=model, benchmark=benchmark, rank=4, kind="true")
    values = torch.linalg.eigvalsh(
        dense_fisher(models[-1], benchmark.train_stream[1].dataset.x)
    ).flip(0)
    spectrum, told = plugin.spectra[-1], plugin.diagnostics()
    np.testing.assert_allclose(spectrum.eigenvalues, values[:4], rtol=1e-4)
    assert spectrum.all_eigenvalues is None
    assert told["spectrum/share_top_k"] == pytest.approx(
        float(values[:4].sum() / values.sum()), rel=1e-4
    )
    assert {"spectrum/effective_rank", "spectrum/share_5_percent_of_samples"}.isdisjoint(told)
    assert exhibits([plugin])["spectrum"]["all_eigenvalues"].shape == (2, 0)


def test_a_pickle_continues_as_if_nothing_had_happened():
    first, second = digits(**SMALL).train_stream
    results = []
    for again in (lambda it: it, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = SpectrumAnalysisPlugin(rank=3, n_samples=10)
        torch.manual_seed(0)
        strategy = make_naive(plugin)
        strategy.train(first, eval_streams=[])
        place = strategy.plugins.index(plugin)
        strategy.plugins[place] = plugin = again(plugin)
        strategy.train(second, eval_streams=[])
        results.append((exhibits([plugin])["spectrum"], weights(strategy)))
    for one, other in zip(*(arrays.values() for arrays, _ in results), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"n_samples": 0}, {"kind": "exact"}, {"rank": 2.5}])
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SpectrumAnalysisPlugin(**wrong)


def test_draws_of_the_data_sets_own_transforms_leave_the_global_generator_alone():
    trained = []
    for plugins in ([], [SpectrumAnalysisPlugin(rank=3, n_samples=9)]):
        benchmark = plain_benchmark(digits(**SMALL), lambda x: x + torch.rand(()))
        torch.manual_seed(0)
        strategy = make_naive(*plugins, model=tiny())
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
        trained.append(weights(strategy))
    assert torch.equal(*trained)


@pytest.mark.parametrize("value", [math.nan, 1e30])
def test_a_model_that_has_diverged_has_no_spectrum(value):
    plugin = SpectrumAnalysisPlugin(rank=3, n_samples=9, kind="empirical")
    strategy = make_naive(plugin, model=tiny())
    strategy.model[-1].weight.data *= value
    strategy.optimizer.param_groups[0]["lr"] = 0.0
    strategy.train(digits(**SMALL).train_stream[0], eval_streams=[])
    assert plugin.spectra == []
    assert plugin.diagnostics() == {}
