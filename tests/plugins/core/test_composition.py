"""Traits that plugins declare, combined."""

import numpy as np
import pytest
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import BiCPlugin, CoPEPlugin, ReplayPlugin

from avalanche_ext.plugins import (
    AGEMPlugin,
    MethodPlugin,
    MGEMPlugin,
    OnlineReplayPlugin,
    Phase,
    check_composition,
    diagnostics,
    exhibits,
    series,
)
from avalanche_ext.traits import by
from tests.cases import Spy, digits, make_naive, train


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
def test_plugins_with_nothing_to_report_and_those_of_others_are_passed_over(ask):
    assert ask([Silent(), Foreign()]) == {}
    assert [*ask([Silent(), Telling(a=1.0), Foreign()])] == ["a"]


def test_all_plugins_are_reported_in_their_order():
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


class Conditional(MethodPlugin):
    phase = by("mode", {"gentle": Phase.PENALTY}, otherwise=Phase.GRADIENT)

    def __init__(self, mode, keeps=True):
        super().__init__()
        if keeps:
            self.mode = mode


def test_a_trait_may_depend_on_an_argument():
    assert Conditional("gentle").phase is Phase.PENALTY
    assert Conditional(["a", "list"]).phase is Phase.GRADIENT


def test_a_trait_of_an_argument_that_is_not_kept_is_an_error():
    with pytest.raises(TypeError, match="Conditional depends on the argument 'mode'"):
        train(make_naive(Conditional("gentle", keeps=False)), digits(train_size=10))


class Renaming(ReplayPlugin):
    """Avalanche's plugin, with an attribute that happens to have the name of a trait."""

    phase = "warm-up"


def test_attributes_of_others_that_are_named_like_traits_are_none():
    with pytest.raises(ValueError, match="'MGEMPlugin' cannot be combined with 'Renaming'"):
        check_composition([Renaming(10), MGEMPlugin()])


class Brightening(SupervisedPlugin):
    """An augmentation of the user's."""

    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[0] = strategy.mbatch[0] + 100


def test_replay_joins_the_mini_batch_that_it_finds():
    """A-GEM remembers what arrived, but what another plugin then makes of it is trained on."""
    spy = Spy()
    plugins = [AGEMPlugin(20), Brightening(), OnlineReplayPlugin(20), spy]
    train(make_naive(*plugins), digits(n_experiences=2, train_size=40))
    assert all(bool((x[:10] >= 100).all()) for x, *_ in spy.mbatches)


@pytest.mark.parametrize("theirs", [CoPEPlugin, BiCPlugin])
def test_plugins_of_avalanches_that_mix_in_old_samples_are_refused(theirs):
    with pytest.raises(ValueError, match="would look new to the other"):
        check_composition([theirs.__new__(theirs), MGEMPlugin()])
