"""What a user reads who got a claim wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.cases import EXPERIMENT, experiment_with, problems_of

CLAIM_FORM = (
    "but must have the form 'method > other', where the method is claimed to have the higher ACC, "
    "or 'method > other in metric'"
)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (experiment_with(claims="drl > naive"), "claims: is 'drl > naive', but must be a list"),
        (
            experiment_with(claims=["drl > naive", ["drl", "naive"]]),
            'claims[1]: is ["drl", "naive"], but must be text',
        ),
        (
            experiment_with(claims=["drl < naive"]),
            f"claims[0]: is 'drl < naive', {CLAIM_FORM}",
        ),
        (
            experiment_with(claims=["drl > replay > naive"]),
            f"claims[0]: is 'drl > replay > naive', {CLAIM_FORM}",
        ),
        (experiment_with(claims=["> drl"]), f"claims[0]: is '> drl', {CLAIM_FORM}"),
        (
            experiment_with(claims=["drl > naive on ACC"]),
            f"claims[0]: is 'drl > naive on ACC', {CLAIM_FORM}",
        ),
        (
            experiment_with(claims=["drl > naive in"]),
            f"claims[0]: is 'drl > naive in', {CLAIM_FORM}",
        ),
        (
            experiment_with(claims=["drl > naive in instance_acuracy"]),
            "claims[0]: 'instance_acuracy' is not a metric where higher is better "
            "(did you mean 'instance_accuracy'?)",
        ),
        (
            experiment_with(claims=["drl > naive in acc"]),
            "claims[0]: 'acc' is not a metric where higher is better (did you mean 'ACC'?)",
        ),
        (
            experiment_with(claims=["drl > naive in AIA"]),
            "claims[0]: 'AIA' is not a metric where higher is better "
            "(did you mean 'average_incremental_accuracy'?)",
        ),
        (
            experiment_with(claims=["drl > naive in forgetting"]),
            "claims[0]: 'forgetting' is not a metric where higher is better "
            "(known: ACC, average_incremental_accuracy, instance_accuracy, BWT, FWT, "
            "learning_accuracy, AAA, WC_ACC, min_ACC, LCA)",
        ),
        (
            experiment_with(
                claims=["drl > naive in BWT"],
                benchmark={"name": "split_digits", "n_experiences": 1},
            ),
            "claims[0]: 'BWT' is undefined for a single experience: set benchmark.n_experiences "
            "to 2 or more",
        ),
        (
            experiment_with(
                claims=["drl > joint in BWT"],
                methods={"drl": {}, "joint": {"strategy": "avalanche:JointTraining"}},
                baseline="drl",
            ),
            "claims[0]: 'BWT' is undefined for joint ('avalanche:JointTraining' trains once): use "
            "ACC or instance_accuracy",
        ),
        (
            experiment_with(
                claims=["iid > drl in learning_accuracy"],
                methods={"drl": {}, "iid": {"training": {"iid": True}}},
                baseline="drl",
            ),
            "claims[0]: 'learning_accuracy' is undefined for iid (training.iid is true): use ACC "
            "or instance_accuracy",
        ),
        (
            experiment_with(claims=["drl > naive in WC_ACC"]),
            "claims[0]: 'WC_ACC' is measured inside experiences: add evaluate: {every: 50}",
        ),
        (
            experiment_with(published={"reference": "A paper", "AAA": {"drl": {"mean": 0.5}}}),
            "published.AAA: 'AAA' is measured inside experiences: add evaluate: {every: 50}",
        ),
        (
            experiment_with(claims=["drl > naive in BWT", "drl > naive", "drl>naive  in ACC"]),
            "claims: has 'drl > naive' more than once",
        ),
        (
            experiment_with(claims=["drl > naiv in BWT"]),
            "claims[0]: unknown method 'naiv' (did you mean 'naive'?)",
        ),
        (
            experiment_with(claims=["drl > drl"]),
            "claims[0]: is 'drl > drl', but must compare two different methods",
        ),
        (
            experiment_with(claims=["drl > naive", "replay > naive", "drl>naive"]),
            "claims: has 'drl > naive' more than once",
        ),
        (
            experiment_with(claims=["drl > naive", "replya > naive"]),
            "claims[1]: unknown method 'replya' (did you mean 'replay'?)",
        ),
        (
            experiment_with(claims=["drl > x"]),
            "claims[0]: unknown method 'x' (known: naive, replay, drl)",
        ),
        (
            {**EXPERIMENT, "claim": ["drl > naive"]},
            "claim: unknown key 'claim' (did you mean 'claims'?)",
        ),
    ],
)
def test_the_line_names_path_value_and_what_is_right(
    document: dict[str, Any], line: str, tmp_path: Path
) -> None:
    assert problems_of(document, tmp_path) == [line]
