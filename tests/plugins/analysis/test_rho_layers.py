"""Which layers the ρ-spectrum is of."""

import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import SlimResNet18
from torch import nn

from avalanche_ext.functional import rho_spectrum
from avalanche_ext.models.catalogue import mlp
from avalanche_ext.plugins import RhoSpectrumPlugin, exhibits
from tests.cases import digits, make_naive, small_model, train, weights
from tests.plugins.analysis.rho_cases import SMALL, hidden_of, samples


def layers_of(model, x, **arguments):
    """The names and widths of layers, of one evaluation of these samples."""
    benchmark = digits(**SMALL)
    plugin = RhoSpectrumPlugin(n_samples=10, **arguments)
    strategy = make_naive(plugin, model=model, eval_mb_size=10)
    plugin._seen = [0]
    strategy.model.eval()
    strategy.experience = benchmark.test_stream[0]
    strategy.mbatch = [x, torch.zeros(len(x), dtype=torch.long), torch.zeros(len(x)).long()]
    with torch.no_grad():
        plugin.before_eval(strategy)
        plugin.before_eval_exp(strategy)
        plugin.before_eval_forward(strategy)
        strategy.mb_output = strategy.forward()
        plugin.after_eval_forward(strategy)
    ((kept,),) = plugin._gathered.values()
    return {name: rows.shape[1] for name, rows in kept.items()}


def test_of_a_resnet_the_pooled_features_are_represented():
    assert layers_of(SlimResNet18(10, nf=4), torch.rand(10, 3, 32, 32)) == {"linear": 32}


def test_data_are_no_representation_whatever_a_model_without_parameters_does_to_them():
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10))
    assert layers_of(model, torch.rand(10, 1, 8, 8)) == {"4": 5}


def test_layers_whose_parameters_are_not_trained_are_represented_too():
    model = small_model()
    model.hidden.requires_grad_(False)
    found = layers_of(model, torch.rand(10, 1, 8, 8))
    assert found == {"hidden.2": 32, "classifier": 16}


def test_layers_by_name_are_represented_by_their_outputs():
    found = layers_of(small_model(), torch.rand(10, 1, 8, 8), layers=["hidden.0", "logits"])
    assert found == {"hidden.0": 32, "logits": 10}


def test_an_unknown_layer_is_named_before_training():
    strategy = make_naive(RhoSpectrumPlugin(layers=["hidden.7"]))
    before = weights(strategy)
    with pytest.raises(ValueError, match=r"no module 'hidden.7'.*hidden\.0"):
        train(strategy, digits(**SMALL))
    assert torch.equal(weights(strategy), before)


def test_of_multi_head_models_what_enters_the_heads_is_represented():
    model = mlp([16, 8], multi_head=True, input_shape=(1, 8, 8), n_classes=4)
    plugin, benchmark = RhoSpectrumPlugin(n_samples=20), digits(**SMALL, scenario="task")
    strategy = make_naive(plugin, model=model, eval_mb_size=7)
    for experience in benchmark.train_stream[:3]:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    first, second = hidden_of(strategy.model.model, samples(benchmark, range(3), 20))
    spectrum = plugin.spectra[2]
    assert [each.n for each in spectrum.layers.values()] == [16, 8]
    assert spectrum.n_samples == 60
    expected = rho_spectrum(torch.cat([first, second], 1))
    assert spectrum.whole.rho == pytest.approx(expected, rel=1e-5)


class Branching(nn.Module):
    """Skips its second layer on request."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.is_short = False

    def forward(self, x):
        h = self.first(x.flatten(1)).relu()
        return self.out(h if self.is_short else self.second(h).relu())


def test_layers_that_run_for_some_tasks_alone_are_left_out():
    class Shorten(SupervisedPlugin):
        def before_eval_exp(self, strategy, **kwargs):
            strategy.model.is_short = strategy.experience.current_experience == 1

    benchmark, plugin = digits(**SMALL), RhoSpectrumPlugin(n_samples=20)
    strategy = make_naive(Shorten(), plugin, model=Branching())
    for experience in benchmark.train_stream[:2]:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    assert [[*each.layers] for each in plugin.spectra.values()] == [["second", "out"], ["out"]]
    layer_rho = exhibits([plugin])["rho_spectrum"]["layer_rho"]
    assert np.isnan(layer_rho).tolist() == [[False, False], [True, False]]


def test_a_model_without_hidden_layers_has_no_spectrum():
    benchmark, plugin = digits(**SMALL), RhoSpectrumPlugin()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    strategy = make_naive(plugin, model=model)
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.eval(benchmark.test_stream)
    assert plugin.spectra == {}
