"""A sweep is one ordinary method per value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_ext.results.record import Claim
from tests.config.cases import LAM, PLUGINS, experiment_with, loaded, problems_of, swept


def alone(**section: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": section})


def test_a_sweep_is_one_method_per_value_in_its_place(tmp_path: Path) -> None:
    document = swept(LAM, [0.5, 0, 1e-5])
    document["methods"]["last"] = None
    methods = loaded(document, tmp_path).methods
    assert [*methods] == ["naive", "drl-0.5", "drl-0", "drl-1e-05", "last"]
    assert [methods[name].plugins[1].args["lam"] for name in [*methods][1:4]] == [0.5, 0.0, 1e-5]
    assert {methods[name].plugins[1].args["alpha"] for name in [*methods][1:4]} == {2.0}


@pytest.mark.parametrize(
    ("path", "written_out"),
    [
        ("optimizer.lr", {"optimizer": {"lr": 1}}),
        ("training.batch_size", {"training": {"batch_size": 1}}),
        (LAM, {"plugins": [PLUGINS[0], {"drl": {"alpha": 2, "lam": 1}}]}),
        ("plugins[0].balanced_replay.batch_size", None),
    ],
)
def test_a_setting_is_the_method_one_would_write_out(
    path: str, written_out: dict[str, Any] | None, tmp_path: Path
) -> None:
    if written_out is None:
        replay = {"balanced_replay": {"mem_size": 100, "batch_size": 1}}
        written_out = {"plugins": [replay, PLUGINS[1]]}
    document = swept(path, [1, 2])
    document["methods"]["by_hand"] = {"plugins": PLUGINS, **written_out}
    experiment = loaded(document, tmp_path)
    assert experiment.methods["drl-1"] == experiment.methods["by_hand"]
    assert experiment.methods["drl-2"] != experiment.methods["by_hand"]
    hashes = experiment.summary()["hashes"]
    assert hashes["drl-1"] == hashes["by_hand"]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ({"strategy": "avalanche:EWC", "sweep": {"args.ewc_lambda": [1, 2]}}, ["m-1", "m-2"]),
        ({"plugins": ["balanced_replay"], "sweep": {"optimizer": ["SGD", "Adam"]}},
         ["m-SGD", "m-Adam"]),
        ({"plugins": ["balanced_replay", "drl"], "sweep": {LAM: [3]}}, ["m-3"]),
        ({"sweep": {"training.shuffle": [True, False]}}, ["m-true", "m-false"]),
        ({"sweep": None}, ["m"]),
    ],
)  # fmt: skip
def test_whatever_an_override_can_write_can_be_swept(
    section: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    assert [*loaded(alone(**section), tmp_path).methods] == names


@pytest.mark.parametrize(
    ("method", "path", "values", "names", "found"),
    [
        ({}, "model.hidden_sizes", [[10], [20, 5], []], ["m-10", "m-20x5", "m-empty"],
         [[10], [20, 5], []]),
        ({}, "model.hidden_sizes[0]", [10, 20], ["m-10", "m-20"], [[10, 100], [20, 100]]),
        ({"model": {"hidden_sizes": [7]}}, "model.hidden_sizes[0]", [10, 20], ["m-10", "m-20"],
         [[10], [20]]),
    ],
)  # fmt: skip
def test_what_the_method_shares_is_swept_as_its_own(
    method: dict[str, Any],
    path: str,
    values: list[Any],
    names: list[str],
    found: list[list[int]],
    tmp_path: Path,
) -> None:
    experiment = loaded(alone(**method, sweep={path: values}), tmp_path)
    assert [*experiment.methods] == names
    assert [each.model.args["hidden_sizes"] for each in experiment.methods.values()] == found
    assert experiment.model.args["hidden_sizes"] == [100, 100]
    assert experiment.sweeps["m"].parameter == "hidden_sizes"
    assert experiment.sweeps["m"].values == dict(zip(names, values, strict=True))


def test_an_argument_of_the_shared_schedule_is_swept_next_to_its_others(tmp_path: Path) -> None:
    schedule = {"name": "StepLR", "step_size": 2, "gamma": 0.5}
    document = {
        **alone(sweep={"training.scheduler.gamma": [0.1, 0.2]}),
        "training": {"batch_size": 10, "scheduler": schedule},
    }
    methods = loaded(document, tmp_path).methods
    assert [each.scheduler.args for each in methods.values() if each.scheduler] == [
        {"step_size": 2, "gamma": 0.1},
        {"step_size": 2, "gamma": 0.2},
    ]


def test_an_argument_of_another_model_is_not_the_shared_ones(tmp_path: Path) -> None:
    section = {"model": "slim_resnet18", "sweep": {"model.hidden_sizes[0]": [1]}}
    assert len(problems_of(alone(**section), tmp_path)) == 1


def test_aliases_of_one_anchor_are_swept_apart(tmp_path: Path) -> None:
    text = yaml.safe_dump(experiment_with(methods=None), sort_keys=False).replace(
        "methods: null",
        "methods:\n"
        "  a: {optimizer: &shared {lr: 0.5}, sweep: {optimizer.lr: [1, 2]}}\n"
        "  b: {optimizer: *shared}\n",
    )
    methods = loaded(text, tmp_path).methods
    assert {name: method.optimizer.args["lr"] for name, method in methods.items()} == {
        "a-1": 1.0,
        "a-2": 2.0,
        "b": 0.5,
    }


def test_the_summary_says_what_was_swept(tmp_path: Path) -> None:
    document = swept(LAM, [0, 0.5])
    document["methods"]["sgd"] = {"sweep": {"optimizer.lr": [0.25]}}
    summary = loaded(document, tmp_path).summary()
    assert yaml.safe_load(yaml.safe_dump(summary)) == summary
    assert summary["methods"] == ["naive", "drl-0", "drl-0.5", "sgd-0.25"]
    assert summary["sweeps"] == {
        "drl": {"parameter": "lam", "values": {"drl-0": 0, "drl-0.5": 0.5}},
        "sgd": {"parameter": "lr", "values": {"sgd-0.25": 0.25}},
    }


def test_a_parameter_that_is_a_list_gives_its_name(tmp_path: Path) -> None:
    document = alone(
        optimizer={"name": "Adam", "betas": [0.9, 0.999]}, sweep={"optimizer.betas[0]": [0.5]}
    )
    assert loaded(document, tmp_path).sweeps["m"].parameter == "betas"


def test_baseline_claims_and_published_may_name_settings(tmp_path: Path) -> None:
    published = {"reference": "a paper", "ACC": {"drl-0.5": {"mean": 0.5, "std": 0.1}}}
    named = {"baseline": "drl-0", "published": published, "claims": ["drl-0.5 > drl-0"]}
    experiment = loaded({**swept(LAM, [0, 0.5]), **named}, tmp_path)
    assert experiment.baseline == "drl-0"
    assert experiment.claims == (Claim("drl-0.5", "drl-0", "ACC"),)


def test_a_swept_first_method_gives_its_first_setting_as_baseline(tmp_path: Path) -> None:
    assert loaded(alone(sweep={"optimizer.lr": [3, 1]}), tmp_path).baseline == "m-3"


@pytest.mark.parametrize(
    ("overrides", "lrs"),
    [
        (["methods.drl.sweep.optimizer.lr=[5, 6, 7]"], [5.0, 6.0, 7.0]),
        (["methods.drl.sweep.optimizer.lr[1]=7"], [0.5, 7.0]),
        (["methods.drl.sweep={optimizer.lr: [8]}"], [8.0]),
        (["methods.drl.optimizer.momentum=0.5"], [0.5, 0.25]),
    ],
)
def test_overrides_apply_before_the_sweep(
    overrides: list[str], lrs: list[float], tmp_path: Path
) -> None:
    methods = loaded(swept("optimizer.lr", [0.5, 0.25]), tmp_path, *overrides).methods
    assert [method.optimizer.args["lr"] for method in [*methods.values()][1:]] == lrs


@pytest.mark.parametrize("path", ["optimizer.lr", LAM])
def test_an_override_can_sweep_what_the_file_does_not(path: str, tmp_path: Path) -> None:
    document = experiment_with(methods={"drl": {"plugins": PLUGINS}})
    experiment = loaded(document, tmp_path, f"methods.drl.sweep.{path}=[1, 2]")
    assert [*experiment.methods] == ["drl-1", "drl-2"]
