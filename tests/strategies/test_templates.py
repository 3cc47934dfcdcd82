"""Templates are their plugins, bundled."""

import pytest
import torch

from avalanche_ext.data import InMemoryLoaders
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.plugins import BalancedReplayPlugin, DRLPlugin, OnlineReplayPlugin
from avalanche_ext.strategies import BER, DRL
from tests.cases import digits, make_naive, small_model, train, weights


def make(template, **arguments):
    model = small_model()
    return template(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        train_mb_size=5,
        evaluator=NoEvaluation(),
        **{"plugins": [InMemoryLoaders()], **arguments},
    )


@pytest.mark.parametrize(
    ("template", "arguments", "plugins"),
    [
        (BER, {}, lambda: [BalancedReplayPlugin(60, 12, seed=4)]),
        (
            DRL,
            {"alpha": 0.5, "lam": 0.01},
            lambda: [DRLPlugin(0.5, 0.01), BalancedReplayPlugin(60, 12, seed=4)],
        ),
    ],
)
def test_template_trains_as_its_plugins_do(template, arguments, plugins):
    benchmark = digits()
    strategy = make(template, mem_size=60, batch_size_mem=12, seed=4, **arguments)
    by_hand = make_naive(*plugins(), batch_size=5)
    for each in (strategy, by_hand):
        train(each, benchmark)
    assert torch.equal(weights(strategy), weights(by_hand))


def test_misspelt_arguments_are_refused():
    with pytest.raises(TypeError, match="alhpa"):
        make(DRL, alhpa=1.0)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="mem_size"):
        make(BER, mem_size=0)


def test_a_second_memory_is_refused_when_the_strategy_is_built():
    with pytest.raises(ValueError, match="OnlineReplayPlugin and BalancedReplayPlugin"):
        make(BER, plugins=[OnlineReplayPlugin()])
