"""Models in bfloat16, and models that run under autocast."""

import pytest
import torch
from torch import nn

from tests.cases import digits, quiet, small_model, train, weights
from tests.plugins.every_plugin import PLUGINS

FLOAT32 = [
    "agem", "bgd", "fisher_spectrum_ewc", "mas", "mgem", "online_ewc", "synaptic_intelligence",
]  # fmt: skip


class Autocast(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.model(x)


@pytest.mark.parametrize("name", FLOAT32)
def test_weights_in_bfloat16_are_refused_where_they_are_not_enough(name):
    strategy = quiet(model=small_model().to(torch.bfloat16), plugins=[PLUGINS[name]()])
    with pytest.raises(ValueError, match=r"'hidden\.0\.weight' is in bfloat16: keep the model in"):
        train(strategy, digits())


@pytest.mark.parametrize("name", ["agem", "bgd", "drl", "gmed", "mgem"])
def test_under_autocast_training_is_that_in_float32_up_to_rounding(name):
    trained = []
    for wrap in (lambda model: model), Autocast:
        torch.manual_seed(0)
        strategy = quiet(model=wrap(small_model()), plugins=[PLUGINS[name]()], train_mb_size=5)
        before = weights(strategy)
        train(strategy, digits(n_experiences=2, train_size=30))
        trained.append(weights(strategy) - before)
    found, expected = trained[1], trained[0]
    assert (found - expected).norm() < 0.3 * expected.norm()
