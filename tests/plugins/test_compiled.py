"""Models inside torch.compile or DataParallel: every plugin does what it does without."""

from functools import cache

import pytest
import torch
from avalanche.models import MTSimpleMLP
from torch import nn

from avalanche_ext.functional.model.wrapped import unwrapped
from avalanche_ext.plugins import (
    DRLPlugin,
    GradientDiversityPlugin,
    HALPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
    RhoSpectrumPlugin,
    diagnostics,
)
from tests.cases import Spy, digits, quiet, small_model, train, weights
from tests.plugins.every_plugin import PLUGINS


def alone(model):
    return model


def whole(model):
    return torch.compile(model, backend="eager")


def in_place(model):
    model.compile(backend="eager")
    return model


def in_part(model):
    model.hidden = torch.compile(model.hidden, backend="eager")
    return model


def in_part_in_place(model):
    model.hidden.compile(backend="eager")
    return model


def parallel(model):
    return nn.DataParallel(model)


@cache
def benchmark():
    return digits(n_experiences=2, train_size=25, test_size=50)


def trained(plugin, wrap, **given):
    """Weights and diagnostics after two experiences of a model that has run, so is compiled."""
    model = wrap(small_model())
    with torch.no_grad():
        model(torch.zeros(10, 1, 8, 8))
    torch.manual_seed(0)
    strategy = quiet(model=model, plugins=[plugin], train_mb_size=5, **given)
    for experience in benchmark().train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark().test_stream)
    return weights(strategy), diagnostics(strategy.plugins)


@cache
def expected(name):
    return trained(PLUGINS[name](), alone)


def check(name, wrap):
    found, numbers = trained(PLUGINS[name](), wrap)
    expected_weights, expected_numbers = expected(name)
    torch.testing.assert_close(found, expected_weights)
    assert numbers == pytest.approx(expected_numbers, rel=1e-4)


@pytest.mark.parametrize("name", PLUGINS)
def test_every_plugin_on_a_compiled_model(name):
    check(name, whole)


@pytest.mark.parametrize("wrap", [in_place, in_part, in_part_in_place], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["drl", "gmed", "gss", "hal", "online_ewc", "rho_spectrum"])
def test_plugins_that_look_inside_the_model_where_it_is_compiled_otherwise(name, wrap):
    check(name, wrap)


@pytest.mark.parametrize("name", PLUGINS)
def test_every_plugin_on_a_parallel_model(name):
    check(name, parallel)


def test_aot_autograd_which_cannot_differentiate_twice_does_no_harm():
    # HAL differentiates the gradient of the strategy's own loss.
    check("hal", lambda model: torch.compile(model, backend="aot_eager"))


@pytest.mark.parametrize("wrap", [whole, in_part, parallel], ids=lambda f: f.__name__)
def test_layers_have_the_names_that_the_user_gave_them(wrap):
    layers = ["hidden.1", "classifier"]
    for make in RhoSpectrumPlugin, GradientDiversityPlugin, lambda layers: DRLPlugin(layers=layers):
        numbers = [trained(make(layers=layers), each)[1] for each in (alone, wrap)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-4)


@pytest.mark.parametrize("wrap", [whole, in_part, parallel], ids=lambda f: f.__name__)
def test_patterns_of_blocks_match_the_names_that_the_user_gave(wrap):
    partition = ["hidden.0.*", "hidden.2.weight"]
    plugins = [MGEMPlugin(20, partition=partition, statistics=True) for _ in range(2)]
    (found, numbers), (right, right_numbers) = map(trained, plugins, (wrap, alone))
    torch.testing.assert_close(found, right)
    assert numbers == right_numbers


def test_the_term_on_a_compiled_model_has_the_hidden_layers_in_it():
    class Check(Spy):
        def before_backward(self, strategy, **kwargs):
            representations = drl._gathered
            assert [rows.shape[1] for rows in representations] == [32, 16, 10]
            self.checked += 1

    class Kept(DRLPlugin):
        def representation_loss(self, representations, labels):
            self._gathered = representations
            return super().representation_loss(representations, labels)

    drl, spy = Kept(), Check()
    strategy = quiet(model=whole(small_model()), plugins=[drl, spy])
    train(strategy, benchmark())
    assert spy.checked == 6


def test_compiled_code_is_used_again_after_the_hooks():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model = torch.compile(small_model(), backend=backend)
    strategy = quiet(model=model, plugins=[DRLPlugin()])
    strategy.train(benchmark().train_stream[0], eval_streams=[])
    assert not compiled  # With hooks the model runs as it was written.
    strategy.eval(benchmark().test_stream)
    assert compiled


@pytest.mark.parametrize("wrap", [whole, parallel], ids=lambda f: f.__name__)
def test_a_wrapped_multi_head_model_is_refused(wrap):
    strategy = quiet(model=wrap(MTSimpleMLP(input_size=64)), plugins=[OnlineReplayPlugin()])
    with pytest.raises(ValueError, match="without task labels, which the multi-head MTSimpleMLP"):
        train(strategy, benchmark())


@pytest.mark.parametrize("make", [DRLPlugin, HALPlugin, RhoSpectrumPlugin])
def test_copies_on_several_devices_are_refused_where_hooks_would_see_one(make):
    model = parallel(small_model())
    model.device_ids = [0, 1]
    strategy = quiet(model=model, plugins=[make()])
    with pytest.raises(ValueError, match="copies of the model on 2 devices"):
        make().check(strategy)


def test_wrappers_within_each_other_are_taken_off():
    model = small_model()
    assert unwrapped(whole(parallel(whole(model)))) is model
    assert unwrapped(model) is model
