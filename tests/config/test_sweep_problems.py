"""A problem of a sweep is reported once, at its cause in the YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.cases import LAM, experiment_with, problems_of, refusal, swept

NOT_A_FOLDER = (
    "must be a folder name: use only letters, digits, '_', '-' and '.', "
    "and do not begin with '-' or '.'"
)


def alone(**section: Any) -> dict[str, Any]:
    return experiment_with(methods={"m": section})


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
            ["methods.drl.sweep.optimizer.lr[1]: is -1, but must be at least 0"],
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
            ["methods.drl.sweep.optimizer.lr: is [], but must have at least one item"],
        ),
        (
            swept("optimizer.lr", [[1], 2]),
            ["methods.drl.sweep.optimizer.lr[0]: is [1], but must be a number"],
        ),
        (
            swept("model.hidden_sizes", [[10], [10, -1]]),
            ["methods.drl.sweep.model.hidden_sizes[1][1]: is -1, but must be greater than 0"],
        ),
        (
            swept("model.hidden_sizes[0]", [10, "a"]),
            ["methods.drl.sweep.model.hidden_sizes[0][1]: is 'a', but must be an integer"],
        ),
        (
            swept("model.hidden_sizes[2]", [10]),
            [
                "methods.drl.sweep.model.hidden_sizes[2]: there is no item 2: "
                "'methods.drl.model.hidden_sizes' has 2 items, counted from 0"
            ],
        ),
        (
            swept("model.hidden_sizes", [[10], [10.0], [20]]),
            ["methods.drl.sweep.model.hidden_sizes: has [10] more than once"],
        ),
        (
            swept("model.hidden_sizes", [[10], 20]),
            ["methods.drl.sweep.model.hidden_sizes[1]: is 20, but must be a list"],
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
                f"but the method 'm-avalanche:Naive' {NOT_A_FOLDER}"
            ],
        ),
        (
            alone(sweep={"optimizer.lr": [1, 1e20]}),
            [f"methods.m.sweep.optimizer.lr[1]: is 1e+20, but the method 'm-1e+20' {NOT_A_FOLDER}"],
        ),
        (
            experiment_with(methods={"m": {"sweep": {"optimizer.lr": [2, 1]}}, "m-1": None}),
            ["methods.m.sweep.optimizer.lr[1]: is 1, but another method has the name 'm-1'"],
        ),
        (
            experiment_with(
                methods={
                    "m": {"sweep": {"optimizer": ["SGD", "Adam"]}},
                    "m-SGD": {"sweep": {"optimizer.lr": [1]}},
                }
            ),
            ["methods.m.sweep.optimizer[0]: is 'SGD', but another method has the name 'm-SGD'"],
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
                "(when plugins[0].balanced_replay.balance is 'class')"
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
            {**swept("optimizer.lr", 0.5), "baseline": "drl-0.5", "claims": ["drl-0.5 > naive"]},
            ["methods.drl.sweep.optimizer.lr: is 0.5, but must be a list"],
        ),
        (
            {**swept("optimizer.lr", [0.5, 1]), "claims": ["drl > naive", "drl-1 > drl-0.6"]},
            [
                "claims[0]: 'drl' is swept: name one of drl-0.5, drl-1",
                "claims[1]: unknown method 'drl-0.6' (did you mean 'drl-0.5'?)",
            ],
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
