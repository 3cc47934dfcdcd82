"""Learning rates of parameters, also of those that the optimizer does not have yet."""

from functools import partial

import pytest
import torch
from avalanche.training import Naive
from torch import nn

from avalanche_ext.plugins.core.model import (
    learning_rates,
    learning_rates_to_come,
    parameters_to_come,
)
from tests.cases import digits, quiet
from tests.plugins.bgd_cases import Growing

BENCHMARK = digits(n_experiences=5, train_size=20)


def one_group(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def two_groups(model):
    head = {"params": [*model.classifier.parameters()], "lr": 0.3}
    return torch.optim.SGD([{"params": [*model.hidden.parameters()]}, head], lr=0.1)


def trained(make, strategy=Naive):
    """A strategy of a growing classifier that has learned the first of five tasks."""
    model = Growing()
    made = quiet(strategy, model, optimizer=make(model))
    made.train(BENCHMARK.train_stream[0], eval_streams=[])
    return made


def rates_by_name(strategy, lr=None):
    rates = learning_rates_to_come(strategy, lr)
    return {name: rates.get(p) for name, p in strategy.model.named_parameters()}


@pytest.mark.parametrize("lr", [None, 0.7])
@pytest.mark.parametrize("make", [one_group, two_groups])
def test_a_head_that_an_evaluation_has_enlarged_keeps_its_rate(make, lr):
    strategy = trained(make)
    before = rates_by_name(strategy, lr)
    assert not parameters_to_come(strategy)
    strategy.eval(BENCHMARK.test_stream)
    assert len(parameters_to_come(strategy)) == 2
    assert rates_by_name(strategy, lr) == before
    assert not learning_rates(strategy, lr).keys() & parameters_to_come(strategy).keys()
    of_head = 0.3 if make is two_groups else 0.1
    assert before["classifier.classifier.weight"] == (of_head if lr is None else lr)
    strategy.train(BENCHMARK.train_stream[1], eval_streams=[])
    assert rates_by_name(strategy, lr) == before
    assert not parameters_to_come(strategy)


@pytest.mark.parametrize("make", [one_group, two_groups])
def test_a_new_layer_has_the_rate_of_the_only_group(make):
    strategy = trained(make)
    strategy.model.adapter = nn.Linear(16, 16)
    expected = 0.1 if make is one_group else None
    assert rates_by_name(strategy)["adapter.weight"] == expected


class OnlyTheHead(Naive):
    """A strategy whose optimizer has the classifier alone."""

    def make_optimizer(self, **kwargs):
        self.optimizer.param_groups[0]["params"] = [*self.model.classifier.parameters()]


def test_parameters_that_are_left_out_have_no_rate():
    strategy = trained(one_group, OnlyTheHead)
    strategy.model.adapter = nn.Linear(16, 16)
    rates = rates_by_name(strategy, 0.7)
    assert {name for name, rate in rates.items() if rate is None} == {
        *("hidden.1.weight", "hidden.1.bias", "adapter.weight", "adapter.bias")
    }
    strategy = trained(one_group)
    del strategy.optimizer.param_groups[0]["params"][0]
    assert [*rates_by_name(strategy).values()] == [None, 0.1, 0.1, 0.1]
    strategy.eval(BENCHMARK.test_stream)
    assert [*rates_by_name(strategy).values()] == [None, 0.1, 0.1, 0.1]


def test_compiled_models_are_treated_alike():
    compile_ = partial(torch.compile, backend="eager")
    strategy = quiet(model=compile_(Growing()))
    strategy.train(BENCHMARK.train_stream[0], eval_streams=[])
    strategy.eval(BENCHMARK.test_stream)
    assert set(rates_by_name(strategy).values()) == {0.1}
