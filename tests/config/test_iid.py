"""Samples of all tasks in random order, and which keys leave older results valid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import Cell, Component, Method, Training, Wandb
from tests.config.cases import experiment_with, loaded, problems_of

NEEDS_ONE_TASK_LABEL = (
    "is true, but would mix samples of different task labels: "
    "needs a benchmark.scenario other than 'task'"
)
IID = {"batch_size": 10, "iid": True}


def trained(scenario: str, **sections: Any) -> dict[str, Any]:
    return experiment_with(benchmark={"name": "split_digits", "scenario": scenario}, **sections)


@pytest.mark.parametrize("scenario", ["class", "domain"])
def test_samples_of_one_task_label_may_be_mixed(scenario: str, tmp_path: Path) -> None:
    methods = {"iid": {"training": {"iid": True}}, "in_sequence": None}
    mixed, in_sequence = loaded(trained(scenario, methods=methods), tmp_path).methods.values()
    assert mixed.training.iid
    assert not in_sequence.training.iid
    assert loaded(trained(scenario, training=IID), tmp_path).methods["naive"].training.iid


@pytest.mark.parametrize(
    ("sections", "path"),
    [
        ({"training": IID}, "training.iid"),
        ({"methods": {"a": None, "b": {"training": {"iid": True}}}}, "methods.b.training.iid"),
        (
            {"methods": {"b": {"sweep": {"training.iid": [False, True]}}}},
            "methods.b.sweep.training.iid[1]",
        ),
    ],
)
def test_samples_of_different_task_labels_are_not_mixed(
    sections: dict[str, Any], path: str, tmp_path: Path
) -> None:
    loaded(trained("class", **sections), tmp_path)
    assert problems_of(trained("task", **sections), tmp_path) == [f"{path}: {NEEDS_ONE_TASK_LABEL}"]


CELL = Cell(
    experiment="e",
    method_name="m",
    method=Method(
        strategy=Component("Naive", "their:Naive", {}),
        plugins=(),
        model=Component("mlp", "our:mlp", {}),
        optimizer=Component("SGD", "torch:SGD", {"lr": 0.1}),
        training=Training(batch_size=10),
    ),
    seed=0,
    benchmark=Component("split", "our:split", {"n_experiences": 5}),
    wandb=Wandb(),
)


def hash_with(training: dict[str, Any], **benchmark: Any) -> str:
    method = replace(CELL.method, training=Training(batch_size=10, **training))
    args = {**CELL.benchmark.args, **benchmark}
    return replace(CELL, method=method, benchmark=replace(CELL.benchmark, args=args)).hash


def test_what_decides_no_number_changes_no_hash() -> None:
    assert hash_with({"iid": False, "eval_batch_size": 7, "device": "cpu"}) == CELL.hash
    assert hash_with({"threads": 1}) == CELL.hash
    assert hash_with({"threads": 2}) != CELL.hash, "sums in another order are other numbers"
    assert hash_with({"device": "cuda:1"}) == hash_with({"device": "cuda"}) != CELL.hash
    moved = replace(CELL.method, strategy=Component("Naive", "elsewhere:Naive", {}))
    assert replace(CELL, method=moved).hash == CELL.hash
    assert replace(CELL, experiment="f", method_name="n").hash == CELL.hash


def test_a_recipe_changes_the_hash() -> None:
    method = CELL.method
    components = Component("a", "x:a", {}), Component("b", "x:b", {})
    hashes = {
        CELL.hash,
        hash_with({"iterations": 5}),
        hash_with({"repeats": 2}),
        hash_with({"clip_grad_norm": 1.0}),
        *(replace(CELL, method=replace(method, criterion=each)).hash for each in components),
        replace(CELL, method=replace(method, model=components[0])).hash,
        replace(CELL, method=replace(method, scheduler=components[0])).hash,
    }
    assert len(hashes) == 7, "no criterion has the name of a schedule, so they need no kinds"


def test_iid_pools_and_test_subsets_change_the_hash() -> None:
    hashes = {
        CELL.hash,
        hash_with({"iid": True}),
        hash_with({"shuffle": False}),
        hash_with({"epochs": 2}),
        hash_with({}, pool_size=100),
        hash_with({}, test_subset="seed"),
        hash_with({}, test_subset="order"),
    }
    assert len(hashes) == 7


def test_what_is_not_in_the_hash_is_in_the_resolved_cell(tmp_path: Path) -> None:
    resolved = loaded(experiment_with(), tmp_path).cells()[0].resolved()
    assert resolved["training"]["iid"] is False
    assert resolved["benchmark"]["args"]["pool_size"] is None
    assert resolved["benchmark"]["args"]["test_subset"] == "first"
