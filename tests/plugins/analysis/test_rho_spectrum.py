"""The ρ-spectrum after each experience: of which representations, and that nothing is changed."""

import pickle

import numpy as np
import pytest
import torch
from avalanche.benchmarks import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.training import Replay
from torch import nn

from avalanche_ext.functional.representation.rho import rho_directions
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    RhoSpectrumPlugin,
    diagnostics,
    exhibits,
)
from tests.cases import digits, make_naive, plain_benchmark, quiet, small_model, weights
from tests.plugins.analysis.rho_cases import SMALL, hidden_of, samples


def check_against_model(spectrum, model, x):
    """Compare the spectrum of all layers, and of each, with those of the model's on these data."""
    first, second = hidden_of(model, x)
    assert spectrum.n_samples == len(x)
    assert [*spectrum.layers] == ["hidden.2", "classifier"]
    for found, h in (
        (spectrum.whole, torch.cat([first, second], 1)),
        (spectrum.layers["hidden.2"], first),
        (spectrum.layers["classifier"], second),
    ):
        expected = rho_directions(h)
        assert (found.n_alive, found.n) == (expected.n_alive, expected.n)
        assert found.rho == pytest.approx(expected.rho, rel=1e-5)
        assert found.alive_rho == pytest.approx(expected.alive_rho, rel=1e-5)


@pytest.mark.parametrize("eval_batch", [1, 7, 20, 1000])
def test_samples_are_the_first_of_each_task_seen_whatever_the_batches(eval_batch):
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin, eval_mb_size=eval_batch)
    for index, experience in enumerate(benchmark.train_stream[:3]):
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
        assert [*plugin.spectra] == [*range(index + 1)]
        check_against_model(
            plugin.spectra[index], strategy.model, samples(benchmark, range(index + 1), 20)
        )


def test_an_untrained_model_has_no_spectrum():
    plugin = RhoSpectrumPlugin()
    strategy = make_naive(plugin)
    strategy.eval(digits(**SMALL).test_stream)
    assert plugin.spectra == plugin.diagnostics() == plugin.exhibits() == {}


def test_a_task_with_fewer_samples_gives_all():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=10_000), digits(**SMALL)
    strategy = make_naive(plugin)
    strategy.train(benchmark.train_stream[1], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    assert plugin.spectra[1].n_samples == len(benchmark.test_stream[1].dataset)


def test_data_sets_of_avalanche_and_its_strategies_are_measured_alike():
    spectra = []
    for wrap in (lambda benchmark: benchmark, plain_benchmark):
        benchmark, plugin = wrap(digits(**SMALL)), RhoSpectrumPlugin(n_samples=15)
        torch.manual_seed(0)
        strategy = quiet(Replay, small_model(), mem_size=20, eval_mb_size=11, plugins=[plugin])
        for experience in benchmark.train_stream[:3]:
            strategy.train(experience, eval_streams=[], shuffle=False)
        strategy.eval(benchmark.test_stream)
        x = samples(digits(**SMALL), range(3), 15)
        check_against_model(plugin.spectra[2], strategy.model, x)
        spectra.append(plugin.spectra[2].n_samples)
    assert spectra == [45, 45]


def test_evaluating_again_changes_nothing_and_training_on_does():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    first = plugin.spectra[0]
    strategy.eval(benchmark.test_stream)
    assert plugin.spectra == {0: first}
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert plugin.diagnostics() == {}
    strategy.eval(benchmark.test_stream)
    assert plugin.spectra[0].whole.rho != first.whole.rho
    check_against_model(plugin.spectra[0], strategy.model, samples(benchmark, [0], 20))


def test_experiences_evaluated_one_by_one_count_together_as_long_as_the_model_stays():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin)
    train, test = benchmark.train_stream, benchmark.test_stream
    strategy.train(train[0], eval_streams=[])
    strategy.eval(test[0])
    strategy.train(train[1], eval_streams=[])
    strategy.eval(test[1])
    assert [*plugin.spectra] == [0]
    assert plugin.diagnostics() == {}
    strategy.eval(test[0])
    check_against_model(plugin.spectra[1], strategy.model, samples(benchmark, [0, 1], 20))


def test_other_streams_are_ignored():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20, stream="train"), digits(**SMALL)
    strategy = make_naive(plugin)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    assert plugin.spectra == {}
    strategy.eval(benchmark.train_stream)
    x = benchmark.train_stream[0].dataset.x[:20]
    check_against_model(plugin.spectra[0], strategy.model, x)


def test_evaluations_in_the_midst_of_training_leave_the_last():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin, train_epochs=2, eval_every=1)
    strategy.train(benchmark.train_stream[0], eval_streams=[benchmark.test_stream])
    check_against_model(plugin.spectra[0], strategy.model, samples(benchmark, [0], 20))


def test_parts_of_an_online_stream_belong_to_their_task():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin)
    known = []
    for part in split_online_stream(benchmark.train_stream[:3], 15, seed=0):
        strategy.train(part, eval_streams=[])
        strategy.eval(benchmark.test_stream)
        known.append([each.n_samples for each in plugin.spectra.values()])
    assert known == [[20], [20], [20, 40], [20, 40], [20, 40, 60], [20, 40, 60]]
    check_against_model(plugin.spectra[2], strategy.model, samples(benchmark, range(3), 20))


def test_a_returning_task_comes_last():
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL)
    strategy = make_naive(plugin)
    for index in (0, 1, 0):
        strategy.train(benchmark.train_stream[index], eval_streams=[])
        strategy.eval(benchmark.test_stream)
    arrays = exhibits([plugin])["rho_spectrum"]
    assert arrays["experience"].tolist() == [1, 0]
    assert arrays["n_samples"].tolist() == [40, 40]
    x = samples(benchmark, [0, 1], 20)
    check_against_model(plugin.spectra[0], strategy.model, x)


class Jitter(nn.Module):
    """Draws in evaluation mode, too."""

    def forward(self, x):
        return x + 0.1 * torch.rand(x.shape)


def noisy_model():
    """With layers that draw and that keep statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), Jitter(), nn.ReLU()]
        last = [nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10)]
        return nn.Sequential(nn.Flatten(), *layers, *last)


@pytest.mark.parametrize(
    "others", [[], [BalancedReplayPlugin(mem_size=20, batch_size=5), DRLPlugin(lam=0.01)]]
)
def test_what_is_trained_and_evaluated_is_bitwise_the_same(others):
    def final(*plugins):
        class Outputs(SupervisedPlugin):
            def after_eval_iteration(self, strategy, **kwargs):
                outputs.append(strategy.mb_output)
                assert not strategy.mb_output.requires_grad

        outputs = []
        torch.manual_seed(7)
        strategy = make_naive(
            *pickle.loads(pickle.dumps(others)), *plugins, Outputs(), model=noisy_model()
        )
        benchmark = digits("permuted", **SMALL)
        for experience in benchmark.train_stream[:3]:
            strategy.train(experience, eval_streams=[])
            strategy.eval(benchmark.test_stream)
        return [*strategy.model.state_dict().values(), *outputs, torch.get_rng_state()]

    plugin = RhoSpectrumPlugin(n_samples=25)
    found, plain = final(plugin), final()
    assert len(plugin.spectra) == 3
    assert len(found) == len(plain)
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


def test_hooks_live_only_while_samples_are_missing():
    class Check(SupervisedPlugin):
        hooked: list[bool]

        def before_eval_exp(self, strategy, **kwargs):
            self.hooked = []

        def before_eval_forward(self, strategy, **kwargs):
            modules = strategy.model.modules()
            self.hooked.append(any(each._forward_pre_hooks for each in modules))

        def after_eval_exp(self, strategy, **kwargs):
            n = len(self.hooked)
            seen = strategy.experience.current_experience == 0 and trained
            assert self.hooked == [seen and batch < 3 for batch in range(n)]
            assert n > 5
            assert not any(each._forward_pre_hooks for each in strategy.model.modules())

    trained = False
    benchmark = digits(**SMALL)
    strategy = make_naive(RhoSpectrumPlugin(n_samples=25), Check(), eval_mb_size=10)
    strategy.eval(benchmark.test_stream)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    trained = True
    strategy.eval(benchmark.test_stream)


def test_numbers_have_names_and_those_that_are_not_defined_are_left_out():
    benchmark, plugin = digits(**SMALL), RhoSpectrumPlugin(n_samples=20)
    strategy = make_naive(plugin)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    spectrum = plugin.spectra[0]
    assert diagnostics(strategy.plugins) == {
        "rho_spectrum": spectrum.whole.rho,
        "rho_spectrum_alive": spectrum.whole.alive_rho,
        "rho_spectrum_rank": spectrum.whole.n_alive,
        "rho_spectrum/hidden.2": spectrum.layers["hidden.2"].rho,
        "rho_spectrum/classifier": spectrum.layers["classifier"].rho,
    }
    nn.init.constant_(strategy.model.hidden[2].bias, float("nan"))
    strategy.eval(benchmark.test_stream)
    told = plugin.diagnostics()
    assert {*told} == {"rho_spectrum/hidden.2", "rho_spectrum_rank"}
    assert told["rho_spectrum_rank"] == 0.0


def test_exhibits_are_the_numbers_of_all_experiences():
    benchmark, plugin = digits(**SMALL), RhoSpectrumPlugin(n_samples=20)
    strategy = make_naive(plugin)
    for experience in benchmark.train_stream[:3]:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    arrays = exhibits(strategy.plugins)["rho_spectrum"]
    assert arrays["experience"].tolist() == [0, 1, 2]
    assert arrays["layer"].tolist() == ["hidden.2", "classifier"]
    for i, spectrum in enumerate(plugin.spectra.values()):
        whole = [arrays[name][i] for name in ("rho", "alive_rho", "n_alive", "n_directions")]
        assert tuple(whole) == spectrum.whole
        assert arrays["n_samples"][i] == spectrum.n_samples == 20 * (i + 1)
        expected = [each.rho for each in spectrum.layers.values()]
        np.testing.assert_array_equal(arrays["layer_rho"][i], expected)


def test_a_pickle_continues_as_if_nothing_had_happened():
    benchmark = digits(**SMALL)
    results = []
    for again in (lambda it: it, lambda it: pickle.loads(pickle.dumps(it))):
        plugin = RhoSpectrumPlugin(n_samples=10)
        torch.manual_seed(0)
        strategy = make_naive(plugin)
        for experience in benchmark.train_stream[:3]:
            strategy.train(experience, eval_streams=[])
            strategy.eval(benchmark.test_stream)
            place = strategy.plugins.index(plugin)
            strategy.plugins[place] = plugin = again(plugin)
        results.append((plugin.spectra, weights(strategy)))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    "wrong", [{"n_samples": 0}, {"n_samples": 2.5}, {"layers": []}, {"layers": "a"}, {"stream": 1}]
)
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RhoSpectrumPlugin(**wrong)
