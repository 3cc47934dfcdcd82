"""A sweep stands for one ordinary method per value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.cases import experiment_with, loaded, problems_of, refusal

LAM = "plugins[1].drl.lam"
PLUGINS = [{"balanced_replay": {"mem_size": 100}}, {"drl": {"alpha": 2}}]
NOT_A_FOLDER = (
    "which names a folder: letters, digits, '_', '-' and '.', beginning with none of the last two"
)


def swept(path: str, values: Any, **section: Any) -> dict[str, Any]:
    """An unswept method and `drl`, swept over one parameter."""
    drl = {"plugins": PLUGINS, **section, "sweep": {path: values}}
    return experiment_with(methods={"naive": None, "drl": drl})


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


def test_baseline_and_published_may_name_settings(tmp_path: Path) -> None:
    published = {"reference": "a paper", "ACC": {"drl-0.5": {"mean": 0.5, "std": 0.1}}}
    document = {**swept(LAM, [0, 0.5]), "baseline": "drl-0", "published": published}
    assert loaded(document, tmp_path).baseline == "drl-0"


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


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        # Values.
        (
            swept(LAM, [0, "a", -1]),
            [
                f"methods.drl.sweep.{LAM}[1]: is 'a', but must be a number",
                f"methods.drl.sweep.{LAM}[2]: is -1, but must be at least 0",
            ],
        ),
        (
            swept("optimizer.lr", [0.5, -1]),
            ["methods.drl.sweep.optimizer.lr[1]: is -1.0, but must be at least 0"],
        ),
        (
            swept("plugins[0].balanced_replay.mem_size", [100, 5]),
            [
                "methods.drl.sweep.plugins[0].balanced_replay.mem_size[1]: is 5, but must be at "
                "least 10: one sample for each of the 10 classes of 'split_digits'"
            ],
        ),
        (
            swept(LAM, [float("nan"), 1]),
            [f"methods.drl.sweep.{LAM}[0]: is .nan, but must be a finite number"],
        ),
        # Paths.
        (
            swept("plugins[1].drl.lamm", [0, 1]),
            [
                "methods.drl.sweep.plugins[1].drl.lamm: unknown key 'lamm' (did you mean 'lam'?)",
            ],
        ),
        (
            swept("plugins[1].dlr.lam", [0, 1]),
            [
                "methods.drl.sweep.plugins[1].dlr.lam: 'methods.drl.plugins[1]' has no 'dlr' "
                "(did you mean 'drl'?)"
            ],
        ),
        (
            swept("plugins[2].drl.lam", [0, 1]),
            [
                "methods.drl.sweep.plugins[2].drl.lam: there is no item 2: "
                "'methods.drl.plugins' has 2 items, counted from 0"
            ],
        ),
        (
            swept("optimiser.lr", [0, 1]),
            ["methods.drl.sweep.optimiser.lr: unknown key 'optimiser' (did you mean 'optimizer'?)"],
        ),
        (
            swept("args.mem_size", [1, 2]),
            ["methods.drl.sweep.args.mem_size: unknown key 'mem_size' (it takes none)"],
        ),
        # The sweep itself.
        (alone(sweep=3), ["methods.m.sweep: is 3, but must be a mapping of names to values"]),
        (
            alone(sweep={}),
            ["methods.m.sweep: has no path, but must have one path and the list of its values"],
        ),
        (
            alone(sweep={"optimizer.lr": [1], "training.epochs": [1]}),
            [
                "methods.m.sweep: has the 2 paths optimizer.lr, training.epochs, "
                "but must have one path and the list of its values"
            ],
        ),
        (
            swept("optimizer.lr", 0.5),
            ["methods.drl.sweep.optimizer.lr: is 0.5, but must be a list"],
        ),
        (
            swept("optimizer.lr", []),
            ["methods.drl.sweep.optimizer.lr: is [], but must be at least 1 long"],
        ),
        (
            swept("optimizer.lr", [[1], 2]),
            [
                "methods.drl.sweep.optimizer.lr[0]: is [1], "
                "but must be a number or true or false or text"
            ],
        ),
        (
            swept("optimizer.lr", [1, 2, 1.0]),
            ["methods.drl.sweep.optimizer.lr: has 1 more than once"],
        ),
        (alone(swep={}), ["methods.m.swep: unknown key 'swep' (did you mean 'sweep'?)"]),
        (
            alone(strategy="avalanche:EWC", sweep={"args.ewc_lambda": 0.1}),
            ["methods.m.sweep.args.ewc_lambda: is 0.1, but must be a list"],
        ),
        # Names.
        (
            alone(sweep={"strategy": ["avalanche:Naive"]}),
            [
                "methods.m.sweep.strategy[0]: is 'avalanche:Naive', "
                f"but would make the method 'm-avalanche:Naive', {NOT_A_FOLDER}"
            ],
        ),
        (
            alone(sweep={"optimizer.lr": [1, 1e20]}),
            [
                "methods.m.sweep.optimizer.lr[1]: is 1e+20, "
                f"but would make the method 'm-1e+20', {NOT_A_FOLDER}"
            ],
        ),
        (
            experiment_with(methods={"m": {"sweep": {"optimizer.lr": [2, 1]}}, "m-1": None}),
            ["methods.m.sweep.optimizer.lr[1]: is 1, but there is another method 'm-1'"],
        ),
        (
            experiment_with(
                methods={
                    "m": {"sweep": {"optimizer": ["SGD", "Adam"]}},
                    "m-SGD": {"sweep": {"optimizer.lr": [1]}},
                }
            ),
            ["methods.m.sweep.optimizer[0]: is 'SGD', but there is another method 'm-SGD'"],
        ),
        # What has nothing to do with the values is said once, where it is.
        (
            alone(
                plugins=["drll"],
                optimizer={"momentum": "x"},
                sweep={"optimizer.lr": [1, 2, 3]},
            ),
            [
                "methods.m.plugins[0]: unknown plugin 'drll' (did you mean 'drl'?)",
                "methods.m.optimizer.momentum: is 'x', but must be a number",
            ],
        ),
        # What only some values bring about elsewhere is said with them.
        (
            alone(
                plugins=[{"balanced_replay": {"mem_size": 7}}],
                sweep={"plugins[0].balanced_replay.balance": ["class", "task"]},
            ),
            [
                "methods.m.plugins[0].balanced_replay.mem_size: is 7, but must be at least 10: "
                "one sample for each of the 10 classes of 'split_digits' "
                "(where plugins[0].balanced_replay.balance is 'class')"
            ],
        ),
        # What refers to methods.
        (
            {**swept("optimizer.lr", [0.5, 1]), "baseline": "drl"},
            ["baseline: 'drl' is swept: name one of drl-0.5, drl-1"],
        ),
        (
            {**swept("optimizer.lr", [0.5, 1]), "baseline": "drl-0.6"},
            ["baseline: unknown method 'drl-0.6' (did you mean 'drl-0.5'?)"],
        ),
        (
            {**swept("optimizer.lr", 0.5), "baseline": "drl-0.5"},
            ["methods.drl.sweep.optimizer.lr: is 0.5, but must be a list"],
        ),
    ],
)
def test_a_mistake_is_named_once_with_path_value_and_right_word(
    document: dict[str, Any], lines: list[str], tmp_path: Path
) -> None:
    assert problems_of(document, tmp_path) == lines


PATHS = [LAM, "optimizer.lr", "optimizer", "plugins[0]", "training", "args.x", "sweep", "a..b", ""]
VALUES = st.lists(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("drl"), max_size=3
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.sampled_from(PATHS), values=VALUES)
def test_whatever_is_swept_is_accepted_or_refused_line_by_line(
    path: str, values: list[Any], tmp_path: Path
) -> None:
    lines, problems = refusal(swept(path, values), tmp_path)
    assert len(lines) == len(problems)
