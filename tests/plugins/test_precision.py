"""Models in bfloat16, and models that run under autocast."""

import pytest
import torch
from torch import nn

from avalanche_ext.plugins import RMarginPlugin
from tests.cases import digits, quiet, small_model, train, weights
from tests.plugins.every_plugin import PLUGINS

FLOAT32 = [
    "agem", "bgd", "fisher_spectrum_ewc", "gradient_diversity", "kronecker_ewc", "mas", "mgem",
    "ogd", "online_ewc", "spectrum_analysis", "synaptic_intelligence",
]  # fmt: skip
MAKE = {**PLUGINS, "r_margin": RMarginPlugin}
"""With the weight 0.1, R-margin makes as much of a rounding of the first weights as autocast does:
both change what is learned by 90 %."""


class Autocast(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(x)


class Bfloat16(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, x):
        return self.model(x.to(torch.bfloat16))


def learned(wrap, plugin):
    """How far two experiences of six iterations move the weights, and what the plugin reports."""
    torch.manual_seed(0)
    strategy = quiet(model=wrap(small_model()), plugins=[plugin], train_mb_size=5)
    before = weights(strategy)
    benchmark = digits(n_experiences=2, train_size=30)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    return weights(strategy).float() - before.float(), plugin.diagnostics()


@pytest.mark.parametrize("name", FLOAT32)
def test_weights_in_bfloat16_are_refused_where_they_are_not_enough(name):
    strategy = quiet(model=small_model().to(torch.bfloat16), plugins=[PLUGINS[name]()])
    with pytest.raises(ValueError, match=r"'hidden\.0\.weight' is in bfloat16: keep the model in"):
        train(strategy, digits())


# bfloat16 rounds to 8 bits. Its rounding changes a step by a few per cent, and steps add up.


@pytest.mark.parametrize("name", [name for name in MAKE if name not in FLOAT32])
def test_with_weights_in_bfloat16_training_is_that_in_float32_up_to_rounding(name):
    found, _ = learned(Bfloat16, MAKE[name]())
    expected, _ = learned(lambda model: model, MAKE[name]())
    assert (found - expected).norm() < 0.3 * expected.norm()


@pytest.mark.parametrize("name", MAKE)
def test_under_autocast_training_is_that_in_float32_up_to_rounding(name):
    (found, numbers), (expected, right) = (
        learned(wrap, MAKE[name]()) for wrap in (Autocast, lambda model: model)
    )
    assert (found - expected).norm() < 0.2 * expected.norm()
    assert len(numbers) == len(right)
    for key in numbers.keys() & right.keys():
        assert numbers[key] == pytest.approx(right[key], rel=0.2, abs=0.02), key
