"""What plugins refuse is found in the YAML, before anything is imported; and nothing else is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from avalanche.core import SupervisedPlugin
from avalanche.training import Naive
from torch.nn import CrossEntropyLoss
from torch.optim import SGD

from avalanche_ext.config.catalogue import OURS
from avalanche_ext.plugins import BGDPlugin
from tests.cases import small_model
from tests.config.cases import experiment_with, loaded, problems_of

NOT_BESIDE_BGD = (
    "cannot be combined with 'bgd', which uses the criterion alone, at several draws of the "
    "weights, and moves the weights itself"
)
UNION_BESIDE_BGD = (
    "but must be 'union' with 'bgd', which needs one criterion over all rows of the mini-batch"
)
UNION = {"loss": "union"}
MIR = {"n_candidates": 9, "batch_size": 10}

BESIDE_BGD: list[tuple[dict[str, Any], str]] = [
    ({"plugins": ["bgd", "drl"]}, f"plugins[1]: 'drl' {NOT_BESIDE_BGD}"),
    ({"plugins": ["drl", "bgd"]}, f"plugins[0]: 'drl' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd", "mgem"]}, f"plugins[1]: 'mgem' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd", "agem"]}, f"plugins[1]: 'agem' {NOT_BESIDE_BGD}"),
    (
        {"plugins": [{"agem": {"replay": "always"}}, "bgd"]},
        f"plugins[0]: 'agem' {NOT_BESIDE_BGD}",
    ),
    ({"plugins": ["hal", "bgd"]}, f"plugins[0]: 'hal' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd", "gss"]}, f"plugins[1]: 'gss' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd", "bgd"]}, f"plugins[1]: 'bgd' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd"], "strategy": "DRL"}, f"strategy: 'DRL' {NOT_BESIDE_BGD}"),
    ({"plugins": ["bgd"], "strategy": "MGEM"}, f"strategy: 'MGEM' {NOT_BESIDE_BGD}"),
    ({"plugins": ["gmed", "bgd"]}, f"plugins[0].gmed.loss: is 'sum', {UNION_BESIDE_BGD}"),
    (
        {"plugins": ["bgd", {"mir": {"loss": "separate"}}]},
        f"plugins[1].mir.loss: is 'separate', {UNION_BESIDE_BGD}",
    ),
    (
        {"plugins": ["bgd", {"online_replay": {"loss": "sum"}}]},
        f"plugins[1].online_replay.loss: is 'sum', {UNION_BESIDE_BGD}",
    ),
    (
        {"plugins": ["bgd"], "strategy": "GMED"},
        f"args.loss: is 'sum', {UNION_BESIDE_BGD}",
    ),
]
BESIDE_BGD += [
    ({"plugins": ["bgd", name]}, f"plugins[1]: '{name}' {NOT_BESIDE_BGD}")
    for name in ("online_ewc", "fisher_spectrum_ewc", "mas", "synaptic_intelligence")
]
BESIDE_BGD += [
    ({"plugins": ["bgd"], "strategy": name}, f"strategy: '{name}' {NOT_BESIDE_BGD}")
    for name in ("OnlineEWC", "FisherSpectrumEWC")
]
NO_ROWS = (
    "n_samples: is null, but 'every: 5' needs a number: how many of the stream's last rows each "
    "estimate uses"
)
NO_PENALTY = (
    "rank: is 0, but must be at least 1, or residual 'diagonal': with residual 'none' there is no "
    "penalty"
)
NOTHING = {"rank": 0, "residual": "none"}
EMPTY_ESTIMATES: list[tuple[dict[str, Any], str]] = [
    ({"plugins": [{"online_ewc": {"every": 5}}]}, f"plugins[0].online_ewc.{NO_ROWS}"),
    ({"plugins": [{"mas": {"every": 5}}]}, f"plugins[0].mas.{NO_ROWS}"),
    (
        {"plugins": ["drl", {"fisher_spectrum_ewc": {"every": 5, "n_samples": None}}]},
        f"plugins[1].fisher_spectrum_ewc.{NO_ROWS}",
    ),
    ({"strategy": "OnlineEWC", "args": {"every": 5}}, f"args.{NO_ROWS}"),
    (
        {"strategy": "FisherSpectrumEWC", "args": {"every": 5, "n_samples": None}},
        f"args.{NO_ROWS}",
    ),
    (
        {"plugins": [{"fisher_spectrum_ewc": NOTHING}]},
        f"plugins[0].fisher_spectrum_ewc.{NO_PENALTY}",
    ),
    ({"strategy": "FisherSpectrumEWC", "args": NOTHING}, f"args.{NO_PENALTY}"),
]
FEW_CANDIDATES: list[tuple[dict[str, Any], str]] = [
    (
        {"plugins": ["drl", {"mir": MIR}]},
        "plugins[1].mir.n_candidates: is 9, but must be at least batch_size, which is 10",
    ),
    (
        {"plugins": [{"mir": {"batch_size": 51}}]},
        "plugins[0].mir.n_candidates: is 50, but must be at least batch_size, which is 51",
    ),
    (
        {"plugins": [{"gmed": {**MIR, "retrieval": "mir"}}]},
        "plugins[0].gmed.n_candidates: is 9, but must be at least batch_size, which is 10",
    ),
    (
        {"strategy": "GMED", "args": {"retrieval": "mir", "n_candidates": 9}},
        "args.n_candidates: is 9, but must be at least batch_size_mem, which is 10",
    ),
]
ACCEPTED: list[dict[str, Any]] = [
    {"plugins": ["bgd"]},
    {"plugins": ["bgd", "online_replay"]},
    {"plugins": ["balanced_replay", "bgd"]},
    {"plugins": [{"gmed": UNION}, "bgd"]},
    {"plugins": ["bgd", {"mir": UNION}]},
    {"plugins": ["bgd"], "strategy": "GMED", "args": UNION},
    {"plugins": ["bgd"], "strategy": "BER"},
    {"plugins": ["gmed", "drl", "mgem"]},
    {"plugins": [{"mir": {"n_candidates": 10, "batch_size": 10}}]},
    # Without MIR there are no candidates.
    {"plugins": [{"gmed": MIR}]},
    {"strategy": "GMED", "args": {"n_candidates": 9}},
    {"plugins": ["gmed", "mgem", "online_ewc", "fisher_spectrum_ewc", "synaptic_intelligence"]},
    {"plugins": ["mas"], "strategy": "OnlineEWC"},
    {"plugins": ["online_replay"], "strategy": "FisherSpectrumEWC"},
    {"plugins": [{"online_ewc": {"every": 5, "n_samples": 20}}]},
    {"plugins": [{"fisher_spectrum_ewc": {"every": 5}}]},
    {"plugins": [{"synaptic_intelligence": {"every": 5}}]},
    {"plugins": [{"fisher_spectrum_ewc": {"rank": 0}}]},
    {"plugins": [{"fisher_spectrum_ewc": {"rank": 1, "residual": "none"}}]},
]


def document(method: dict[str, Any]) -> dict[str, Any]:
    return experiment_with(methods={"m": method})


def named(kind: str, name: str) -> Any:
    module, _, attribute = OURS[kind][name].target.partition(":")  # type: ignore[index]
    return getattr(importlib.import_module(module), attribute)


def build(method: dict[str, Any]) -> None:
    """Make the method by hand, and have BGD check it as it does when training starts.

    Raises:
        ValueError: If a plugin refuses.
    """
    plugins: list[SupervisedPlugin[Any]] = []
    for item in method.get("plugins", []):
        ((name, args),) = item.items() if isinstance(item, dict) else [(item, {})]
        plugins.append(named("plugin", name)(**args))
    model = small_model()
    made = named("strategy", method["strategy"]) if "strategy" in method else Naive
    strategy: Any = made(
        model=model,
        optimizer=SGD(model.parameters(), lr=0.1),
        criterion=CrossEntropyLoss(),
        plugins=plugins,
        **method.get("args", {}),
    )
    for plugin in strategy.plugins:
        if isinstance(plugin, BGDPlugin):
            plugin.check(strategy)


@pytest.mark.parametrize(("method", "line"), [*BESIDE_BGD, *FEW_CANDIDATES, *EMPTY_ESTIMATES])
def test_what_the_yaml_is_refused_for_the_plugins_refuse_as_well(
    method: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(document(method), tmp_path) == [f"methods.m.{line}"]
    with pytest.raises(ValueError, match=r"\w"):
        build(method)


@pytest.mark.parametrize("method", ACCEPTED)
def test_what_the_yaml_may_have_the_plugins_accept(method: dict[str, Any], tmp_path: Path) -> None:
    loaded(document(method), tmp_path)
    build(method)


def test_each_part_with_bgd_is_named(tmp_path: Path) -> None:
    method = {"plugins": ["bgd", "drl", "gmed", "mgem"]}
    assert problems_of(document(method), tmp_path) == [
        f"methods.m.plugins[1]: 'drl' {NOT_BESIDE_BGD}",
        f"methods.m.plugins[2].gmed.loss: is 'sum', {UNION_BESIDE_BGD}",
        f"methods.m.plugins[3]: 'mgem' {NOT_BESIDE_BGD}",
    ]


def test_a_sum_with_another_loss_and_a_term_in_another_loop_are_named(tmp_path: Path) -> None:
    experiment = experiment_with(
        methods={
            "a": {"strategy": "avalanche:ER_ACE", "plugins": ["gmed"]},
            "b": {"strategy": "avalanche:MER", "plugins": ["drl", "mir"]},
            "c": {"strategy": "avalanche:ER_ACE", "plugins": [{"mir": {"loss": "separate"}}]},
        }
    )
    assert problems_of(experiment, tmp_path) == [
        "methods.a.plugins[0].gmed.loss: is 'sum', but must be 'union' or 'separate' with "
        "'avalanche:ER_ACE', whose loss is not the criterion over the rows of the mini-batch",
        "methods.b.plugins[0]: 'drl' cannot be combined with 'avalanche:MER', which trains without "
        "the backward pass and the optimizer's step that 'drl' would change",
        "methods.b.plugins[1].mir.loss: is 'sum', but must be 'union' with 'avalanche:MER', "
        "which trains without the backward pass that adds the parts of the loss",
    ]


def test_a_swept_number_of_candidates_is_named_by_its_place(tmp_path: Path) -> None:
    method = {"plugins": ["mir"], "sweep": {"plugins[0].mir.n_candidates": [50, 5]}}
    assert problems_of(document(method), tmp_path) == [
        "methods.m.sweep.plugins[0].mir.n_candidates[1]: is 5, but must be at least batch_size, "
        "which is 10"
    ]
