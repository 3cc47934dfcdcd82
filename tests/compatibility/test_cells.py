"""Some cells of the matrix, and that its checks find what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_ext import plugins as ours
from avalanche_ext.plugins import OnlineEWCPlugin
from avalanche_ext.traits import Phase
from tests.cases import digits, quiet, train
from tests.compatibility.cells import Cell, End, outcome, zero_strength
from tests.compatibility.design import covering
from tests.compatibility.oracle import Uncheckable


@pytest.mark.parametrize(
    "cell",
    [
        Cell(("rho_spectrum",), stream="ni_benchmark"),
        Cell(("rho_spectrum",), stream="new_instances"),
        Cell(("rho_spectrum",), stream="data-incremental"),
        Cell(("rho_spectrum",), stream="linear decay"),
        Cell(("online_ewc",), stream="linear decay", model="conv"),
        Cell(("mir",), stream="linear decay"),
        Cell(("mgem",), "avalanche:CWRStar"),
        Cell(("agem",), "avalanche:CWRStar"),
        Cell(("gss",), "avalanche:CWRStar", model="conv"),
        Cell(("hal(loss=separate)",), "avalanche:FeatureReplay", "rotated"),
        Cell(("ogd", "kronecker_ewc")),
        Cell(("kronecker_ewc(merge=none)",), model="conv"),
        Cell(("kronecker_ewc(merge=none, update=gradient)",), stream="growing head"),
        Cell(("online_ewc(kind=reversed)",), stream="growing head"),
        Cell(("drl",), "BER", "multi-head", "supsup"),
    ],
    ids=str,
)
def test_cells_that_failed_once(cell: Cell) -> None:
    found = outcome(cell)
    assert found.end is End.WORKS, found.reason


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell(("online_ewc",), "avalanche:JointTraining"), "acts only after an experience"),
        (Cell(("r_margin",), "avalanche:CWRStar"), "trains no hidden layer"),
        (Cell(("metric_loss",), "avalanche:CWRStar"), "trains no hidden layer"),
    ],
    ids=str,
)
def test_combinations_without_meaning_are_refused(cell: Cell, words: str) -> None:
    found = outcome(cell)
    assert found.end is End.REFUSED
    assert words in found.reason


def test_a_penalty_that_is_always_zero_says_so() -> None:
    found = outcome(Cell(("mas(update=gradient)",), stream="data-incremental"))
    assert found.end is End.SAID
    assert "one iteration only" in found.reason


@pytest.mark.parametrize("update", ["proximal", "gradient"])
def test_a_penalty_says_so_if_the_strategy_never_calls_its_hook(update: Any) -> None:
    strategy = quiet(plugins=[OnlineEWCPlugin(1.0, update=update)])
    hook = {"proximal": "_after_update", "gradient": "_before_backward"}[update]
    setattr(strategy, hook, lambda **kwargs: None)
    with pytest.warns(UserWarning, match=f"Naive has not called {hook[1:]}"):
        train(strategy, digits(train_size=20, n_experiences=2))


def _more(method: Any, then: Any) -> Any:
    """A method, and then something else."""

    def both(self: Any, strategy: Any, **kwargs: Any) -> None:
        method(self, strategy, **kwargs)
        then(self, strategy)

    return both


def _wrong_labels(plugin: Any, strategy: Any) -> None:
    if len(plugin.slots):
        strategy.mbatch[1] = torch.zeros_like(strategy.mbatch[1])


def _other_rows(plugin: Any, strategy: Any) -> None:
    if len(plugin.slots):
        strategy.mbatch[0] = strategy.mbatch[0] + 1


def _loss(plugin: Any, strategy: Any) -> None:
    strategy.loss += 0.5


def _weights(plugin: Any, strategy: Any) -> None:
    with torch.no_grad():
        for p in strategy.model.parameters():
            p += 0.1


def _gradient(plugin: Any, strategy: Any) -> None:
    for p in strategy.model.parameters():
        p.grad = -p.grad


def _draw(plugin: Any, strategy: Any) -> None:
    torch.rand(1)


WRONG = {
    "labels": ("online_replay", "OnlineReplayPlugin", "before_training_iteration", _wrong_labels),
    "rows": ("mir", "MIRPlugin", "before_training_iteration", _other_rows),
    "sum": ("mir", "MIRPlugin", "before_backward", _loss),
    "separate": ("online_replay(loss=separate)", "OnlineReplayPlugin", "before_backward", _loss),
    "term": ("drl", "DRLPlugin", "before_backward", _loss),
    "penalty": ("mas(update=gradient)", "MASPlugin", "before_backward", _loss),
    "pull": ("online_ewc", "OnlineEWCPlugin", "after_update", _weights),
    "factors": ("kronecker_ewc", "KroneckerEWCPlugin", "after_update", _weights),
    "terms": ("kronecker_ewc(merge=none)", "KroneckerEWCPlugin", "after_update", _weights),
    "basis": ("ogd", "OGDPlugin", "after_backward", _gradient),
    "projection": ("mgem", "MGEMPlugin", "after_backward", _gradient),
    "one reference": ("agem", "AGEMPlugin", "after_backward", _gradient),
    "draw": ("bgd", "BGDPlugin", "after_update", _weights),
    "look": ("rho_spectrum", "RhoSpectrumPlugin", "after_eval", _draw),
    "outside": ("gss", "GSSPlugin", "after_training_exp", _weights),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, kind, hook, then = WRONG[name]
    changed = getattr(ours, kind)
    monkeypatch.setattr(changed, hook, _more(getattr(changed, hook), then))
    assert outcome(Cell((plugin,))).end is End.WRONG


def test_a_memory_that_misses_samples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(plugin: Any, strategy: Any) -> None:
        plugin._is_to_store = plugin._is_to_store and strategy.clock.train_iterations % 2 == 0

    kind = ours.OnlineReplayPlugin
    hook = "before_training_iteration"
    monkeypatch.setattr(kind, hook, _more(getattr(kind, hook), forget))
    assert outcome(Cell(("online_replay",))).end is End.WRONG


@pytest.mark.parametrize(
    ("plugin", "kind", "hook"),
    [
        ("drl", "DRLPlugin", "before_backward"),
        ("mas", "MASPlugin", "after_update"),
        ("gss", "GSSPlugin", "after_training_iteration"),
    ],
)
def test_a_plugin_without_effect_is_found(
    plugin: str, kind: str, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getattr(ours, kind), hook, lambda *args, **kwargs: None)
    assert outcome(Cell((plugin,))).end in (End.IDLE, End.SAID, End.WRONG)


def test_a_late_refusal_and_a_crash_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plugin: Any, strategy: Any) -> None:
        raise KeyError("unknown")

    kind = ours.MASPlugin
    monkeypatch.setattr(kind, "after_training_exp", _more(kind.after_training_exp, fail))
    assert outcome(Cell(("mas",))).end is End.CRASH


def test_strength_that_is_not_zero_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ours.DRLPlugin
    assert zero_strength(Cell(("drl",))).end is End.WORKS
    monkeypatch.setattr(kind, "before_backward", _more(kind.before_backward, _draw))
    assert zero_strength(Cell(("drl",))).end is End.WRONG


def test_a_new_kind_of_plugin_needs_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(ours.MethodPlugin):
        phase = Phase.PENALTY

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.loss += 1.0

    monkeypatch.setattr(ours, "DRLPlugin", Other)
    monkeypatch.setattr("tests.compatibility.cells.create_plugin", lambda name, args: Other())
    with pytest.raises(Uncheckable, match="no check for Other"):
        outcome(Cell(("drl",)))


def test_any_two_values_meet_in_a_covering_design() -> None:
    factors = [["a", "b", "c"], ["p", "q"], ["x", "y", "z"]]
    rows = [*covering(factors)]
    assert len(rows) <= 11
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert {(row[i], row[j]) for row in rows} == {
            (a, b) for a in factors[i] for b in factors[j]
        }
