"""A YAML is refused for its combination of parts exactly where the built strategy is."""

from __future__ import annotations

from functools import cache
from itertools import product

import pytest
import torch
from torch import nn

from avalanche_ext.config.catalogue import Kind, entries
from avalanche_ext.config.components import component
from avalanche_ext.config.schema import Component
from avalanche_ext.config.semantics import check_method
from avalanche_ext.metrics import NoEvaluation
from avalanche_ext.plugins import ReportingPlugin, check_composition
from avalanche_ext.runner.foreign import call
from tests.cases import small_model
from tests.compatibility.parts import FOLDER, SCRIPT, made

NOT_BY_A_YAML = {
    f"avalanche:{name}" for name in ("CWRStarPlugin", "CheckpointPlugin", "LRSchedulerPlugin")
}
"""Plugins that need Python objects."""

OF_ANOTHER_KIND = {
    f"avalanche:{name}"
    for name in (
        "AETraining", "AR1", "ER_AML", "ExpertGateStrategy", "ICaRL", "LearningToPrompt",
        "PNNStrategy", "PackNet", "SCR", "StreamingLDA",
    )
}  # fmt: skip
"""Strategies that need a model of their own kind, or more than a model and an optimizer."""


@cache
def parts(kind: Kind) -> list[tuple[str, Component]]:
    """All strategies or plugins, ours and Avalanche's, that a YAML can build by themselves."""
    is_plugin = kind == "plugin"
    return [
        (n, p) for n, p in made(kind).items() if _builds(*((NAIVE, [p]) if is_plugin else (p, [])))
    ]


NAIVE, _ = component("strategy", "avalanche:Naive", {}, path="p", name_path="p")


def build(strategy: Component | None, plugins: list[Component]) -> None:
    """Build a strategy, and check it as plugins of ours do when training starts."""
    assert strategy
    model = small_model()
    given = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "criterion": nn.CrossEntropyLoss(),
        "plugins": [call(plugin, {}) for plugin in plugins],
        "evaluator": NoEvaluation(),
    }
    built = call(strategy, given)
    check_composition(built.plugins, built)
    for plugin in built.plugins:
        if isinstance(plugin, ReportingPlugin):
            plugin.check(built)


def _builds(strategy: Component | None, plugins: list[Component]) -> bool:
    try:
        build(strategy, plugins)
    except Exception:
        return False
    return True


def is_refused(strategy: Component | None, plugins: list[Component]) -> bool:
    """Whether the strategy that is built of these parts refuses them."""
    try:
        build(strategy, plugins)
    except ValueError as error:
        reasons = "cannot be combined", "must be 'union'", "must name layers"
        if not any(words in str(error) for words in reasons):
            raise
        return True
    return False


def test_nearly_everything_is_compared() -> None:
    """Most of what a YAML can name can be built by itself."""
    plugins, strategies = (
        [name.split("(")[0] for name, _ in parts(k)] for k in ("plugin", "strategy")
    )
    for name in ("agem", "bgd", "gss", "hal", "mgem", "mas", "drl", "avalanche:LwFPlugin"):
        assert name in plugins
    for name in ("BER", "GMED", "MGEM", "avalanche:LwF", "avalanche:DER", "avalanche:ER_ACE"):
        assert name in strategies
    assert {*entries("plugin")} - {*plugins} == NOT_BY_A_YAML
    assert {*entries("strategy")} - {*strategies} == OF_ANOTHER_KIND


@pytest.mark.parametrize("first", parts("plugin"), ids=lambda part: part[0])
def test_pairs_of_plugins(first: tuple[str, Component]) -> None:
    for name, second in parts("plugin"):
        plugins = [first[1], second]
        told = [*check_method(NAIVE, plugins, "m", None)]
        assert bool(told) == is_refused(NAIVE, plugins), name


@pytest.mark.parametrize("strategy", parts("strategy"), ids=lambda part: part[0])
def test_strategies_with_a_plugin(strategy: tuple[str, Component]) -> None:
    for name, plugin in parts("plugin"):
        told = [*check_method(strategy[1], [plugin], "m", None)]
        assert bool(told) == is_refused(strategy[1], [plugin]), name


@pytest.mark.parametrize("name", ["ER_ACE", "ER_AML", "FeatureReplay"])
@pytest.mark.parametrize("plugin", ["mir", "gmed", "online_replay"])
def test_replay_that_takes_out_the_criterion_is_refused_with_another_loss(
    name: str, plugin: str
) -> None:
    strategy = Component(f"avalanche:{name}", f"avalanche.training.supervised:{name}", {})
    for loss in ("sum", "separate", "union"):
        ours, _ = component("plugin", plugin, {"loss": loss}, path="p", name_path="p")
        problems = [*check_method(strategy, [ours], "m", None)]
        assert [p.path for p in problems] == (
            [f"m.plugins[0].{plugin}.loss"] if loss == "sum" else []
        )


@pytest.mark.parametrize("name", ["MER", "LaMAML", "StreamingLDA"])
def test_what_changes_a_step_is_refused_in_strategies_without_such_a_step(name: str) -> None:
    strategy = Component(f"avalanche:{name}", f"avalanche.training.supervised:{name}", {})
    for plugin, args, n in [
        ("drl", {}, 1), ("mgem", {}, 1), ("online_ewc", {}, 1), ("mir", {}, 1),
        ("mir", {"loss": "separate"}, 1), ("mir", {"loss": "union"}, 0), ("rho_spectrum", {}, 0),
    ]:  # fmt: skip
        ours, _ = component("plugin", plugin, args, path="p", name_path="p")
        assert len([*check_method(strategy, [ours], "m", None)]) == n, plugin


def test_some_are_refused_and_most_are_not() -> None:
    n_refused = sum(
        bool([*check_method(NAIVE, [p, q], "m", None)])
        for (_, p), (_, q) in product(parts("plugin"), repeat=2)
    )
    assert 0.05 < n_refused / len(parts("plugin")) ** 2 < 0.5


def test_the_page_of_combinations_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    SCRIPT["main"]()
    assert capsys.readouterr().out == (FOLDER / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["AR1", "ICaRL", "SCR", "Cumulative", "DER", "CoPE", "BiC"])
def test_strategies_that_mix_in_old_samples_are_refused_with_our_memories(name: str) -> None:
    strategy = Component(f"avalanche:{name}", f"avalanche.training.supervised:{name}", {})
    for plugin in ("mgem", "mir", "balanced_replay"):
        ours, _ = component("plugin", plugin, {}, path="p", name_path="p")
        (problem,) = check_method(strategy, [ours], "m", None)
        assert "would look new to the other" in problem.message
