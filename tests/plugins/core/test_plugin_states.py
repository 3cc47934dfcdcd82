"""`state_dict` and `load_state_dict` of plugins, in a script."""

from __future__ import annotations

import io

import pytest
import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics.recorder import NoEvaluation
from avalanche_ext.models import MLP
from avalanche_ext.plugins import (
    BalancedReplayPlugin,
    DRLPlugin,
    GMEDPlugin,
    MGEMPlugin,
    OnlineEWCPlugin,
)

MADE = {
    "ber, drl and ewc": lambda: [BalancedReplayPlugin(20), DRLPlugin(), OnlineEWCPlugin()],
    "gmed": lambda: [GMEDPlugin(20, 5)],
    "mgem": lambda: [MGEMPlugin(10)],
}


def strategy(plugins):
    torch.manual_seed(0)
    model = MLP(input_shape=(1, 8, 8), n_classes=10, hidden_sizes=[16])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return SupervisedTemplate(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=5,
        plugins=[InMemoryLoaders(), *plugins],
        evaluator=NoEvaluation(),
    )


@pytest.mark.parametrize("name", MADE)
def test_a_script_goes_on_with_new_plugins(name):
    stream = split_digits(n_experiences=2, train_size=60).train_stream
    plugins = MADE[name]()
    whole = strategy(plugins)
    whole.train(stream[0], eval_streams=[])
    file = io.BytesIO()
    loader = whole.plugins[0].generator.get_state()
    states = [plugin.state_dict() for plugin in plugins]
    torch.save([whole.model.state_dict(), loader, states], file)
    whole.train(stream[1], eval_streams=[])

    file.seek(0)
    weights, loader, states = torch.load(file, weights_only=True)
    others = MADE[name]()
    again = strategy(others)
    again.model.load_state_dict(weights)
    again.plugins[0].generator.set_state(loader)
    again.clock.train_iterations = 12
    for plugin, state in zip(others, states, strict=True):
        plugin.load_state_dict(state)
    again.train(stream[1], eval_streams=[])
    for mine, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_state_of_another_plugin_is_refused():
    with pytest.raises(ValueError, match="it is not the state of a DRLPlugin"):
        DRLPlugin().load_state_dict(BalancedReplayPlugin(20).state_dict())
