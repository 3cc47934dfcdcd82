"""What plugins tell of themselves, put together."""

import numpy as np
import pytest
from avalanche.core import SupervisedPlugin

from avalanche_ext.plugins import MethodPlugin, Phase, diagnostics, exhibits, series
from tests.cases import digits, make_naive, train


class Telling(MethodPlugin):
    """Tells these numbers in all three ways."""

    phase = Phase.PENALTY

    def __init__(self, **numbers):
        super().__init__()
        self.numbers = numbers

    def diagnostics(self):
        return self.numbers

    def series(self):
        return {name: [number, number] for name, number in self.numbers.items()}

    def exhibits(self):
        return {name: {"array": np.array([number])} for name, number in self.numbers.items()}


class Silent(MethodPlugin):
    phase = Phase.PENALTY


class Foreign(SupervisedPlugin):
    def series(self):
        raise AssertionError("is none of ours")

    diagnostics = exhibits = series


@pytest.mark.parametrize("ask", [diagnostics, series, exhibits])
def test_plugins_with_nothing_to_tell_and_those_of_others_are_passed_over(ask):
    assert ask([Silent(), Foreign()]) == {}
    assert [*ask([Silent(), Telling(a=1.0), Foreign()])] == ["a"]


def test_all_plugins_are_told_of_in_their_order():
    plugins = [Telling(b=1.0), Telling(a=2.0, c=3.0)]
    assert diagnostics(plugins) == {"b": 1.0, "a": 2.0, "c": 3.0}
    assert series(plugins) == {"b": [1.0, 1.0], "a": [2.0, 2.0], "c": [3.0, 3.0]}
    assert {name: arrays["array"].item() for name, arrays in exhibits(plugins).items()} == (
        diagnostics(plugins)
    )
    assert [*diagnostics(plugins)] == ["b", "a", "c"]


def test_what_several_give_under_one_name_is_numbered_and_not_lost():
    plugins = [Telling(a=1.0), Telling(a=2.0, b=3.0), Telling(a=4.0)]
    assert diagnostics(plugins) == {"a": 1.0, "a-2": 2.0, "b": 3.0, "a-3": 4.0}
    assert series(plugins)["a-2"] == [2.0, 2.0]
    assert exhibits(plugins)["a-3"]["array"] == 4.0


def test_a_method_without_a_phase_is_refused_before_training():
    class Phaseless(MethodPlugin):
        pass

    with pytest.raises(ValueError, match="Phaseless declares no phase"):
        train(make_naive(Phaseless()), digits(train_size=10))
