"""A plugin that has been in another strategy says so, once."""

import warnings

import pytest

from avalanche_ext.metrics import TransferMatrix
from avalanche_ext.plugins import BGDPlugin, GradientDiversityPlugin, MGEMPlugin, OnlineEWCPlugin
from tests.cases import digits, make_naive, train

BENCHMARK = digits(train_size=20, n_experiences=2)
MAKE = [MGEMPlugin, BGDPlugin, OnlineEWCPlugin, GradientDiversityPlugin]


def run(plugin):
    strategy = make_naive(plugin)
    train(strategy, BENCHMARK)
    strategy.eval(BENCHMARK.test_stream)
    return strategy


def go_on(strategy):
    """Train twice on the last experience, which a `TransferMatrix` allows, and evaluate."""
    for _ in range(2):
        strategy.train(BENCHMARK.train_stream[-1], eval_streams=[])
    strategy.eval(BENCHMARK.test_stream)


@pytest.mark.parametrize("make", [*MAKE, TransferMatrix])
def test_a_plugin_in_a_second_strategy_warns_once(make):
    plugin = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go_on(run(plugin))
    second = make_naive(plugin)
    with pytest.warns(UserWarning, match=f"this {make.__name__} has been in another") as caught:
        go_on(second)
    assert len([w for w in caught if "another strategy" in str(w.message)]) == 1
    assert f"make a new {make.__name__} for each strategy" in str(caught[0].message)


@pytest.mark.parametrize("make", [*MAKE, TransferMatrix])
def test_plugins_of_one_kind_are_distinguished(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(make())
        run(make())
