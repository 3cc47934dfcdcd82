"""`evaluate` measures inside experiences and changes nothing else about a run."""

import json

import numpy as np
import pytest

from avalanche_ext.config import ConfigError, notes
from avalanche_ext.metrics.curves import CURVE_METRICS, learning_curve_area
from avalanche_ext.results.cell import read_cell
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.runner.cell import Stopwatch
from tests.runner.cases import SMALL, cell, experiment
from tests.runner.resuming import AVALANCHES, DIGITS, OURS, RECIPES, left_by, run, small

ONE_HEAD = {"name": "mlp", "hidden_sizes": [16]}
TASKS = {
    "benchmark": {**DIGITS, "scenario": "task"},
    "model": {**ONE_HEAD, "multi_head": True},
}

CELLS = {
    "plugins of ours": (OURS["combined"], {}),
    "Replay": (AVALANCHES["Replay"], {}),
    "ICaRL": (
        {"strategy": "avalanche:ICaRL", "args": {"memory_size": 20, "fixed_memory": True}},
        {},
    ),
    "JointTraining": ({"strategy": "avalanche:JointTraining"}, {}),
    "dropout": (
        AVALANCHES["EWC"],
        {"model": {"name": "mlp", "hidden_sizes": [16], "dropout": 0.5}},
    ),
    "repeats": ({}, RECIPES["iterations, repeated"]),
    "online stream": ({}, RECIPES["online stream"]),
}

MORE = {
    **{name: (method, {}) for name, method in OURS.items() if name != "combined"},
    **{name: (AVALANCHES[name], {}) for name in ("Naive", "GEM", "LwF", "DER", "MAS", "CWRStar")},
    "BiC": ({"strategy": "avalanche:BiC", "args": {"mem_size": 20}}, {}),
    "GDumb": ({"strategy": "avalanche:GDumb", "args": {"mem_size": 20}}, {}),
    "GSS": (
        {"strategy": "avalanche:GSS_greedy", "args": {"mem_size": 40, "input_size": [1, 8, 8]}},
        {},
    ),
    "MER": ({"strategy": "avalanche:MER", "args": {"mem_size": 20}}, {}),
    "MIR": ({"strategy": "avalanche:MIR", "args": {"mem_size": 20, "subsample": 10}}, {}),
    "SCR": ({"strategy": "avalanche:SCR", "args": {"mem_size": 20}}, {}),
    "ER_ACE": ({"strategy": "avalanche:ER_ACE", "args": {"mem_size": 20}}, {}),
    "LFL": ({"strategy": "avalanche:LFL", "args": {"lambda_e": 0.1}}, {}),
    "RWalk": ({"plugins": ["avalanche:RWalkPlugin"]}, {}),
    "Cumulative": ({"strategy": "avalanche:Cumulative"}, {}),
    "FromScratchTraining": ({"strategy": "avalanche:FromScratchTraining"}, {}),
    "GenerativeReplay": ({"strategy": "avalanche:GenerativeReplay"}, {}),
    "LaMAML": ({"strategy": "avalanche:LaMAML"}, TASKS),
    "PNN": ({"strategy": "avalanche:PNNStrategy"}, {**TASKS, "model": ONE_HEAD}),
    "iid": ({}, RECIPES["iid"]),
    "random transforms": ({}, RECIPES["random transforms"]),
}
"""Further ones, as slow all together as a quick suite should not be."""


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        *(pytest.param(*each, id=name) for name, each in CELLS.items()),
        *(pytest.param(*each, id=name, marks=pytest.mark.matrix) for name, each in MORE.items()),
    ],
)
def test_a_run_is_the_same_with_and_without_analyses(tmp_path, method, changed):
    plain = small(tmp_path, method, **changed)
    run(plain, tmp_path / "plain")
    measured = small(tmp_path, method, **changed, evaluate={"every": 3})
    run(measured, tmp_path / "measured")
    left = left_by(measured, tmp_path / "measured")
    numbers = left["result"]["metrics"]
    is_mixed = "JointTraining" in str(method) or "iid" in changed.get("training", {})
    assert numbers["AAA"] is not None
    assert all((numbers[name] is None) == is_mixed for name in set(CURVE_METRICS) - {"AAA"})
    assert "continual_evaluation.npz" in left["exhibits"]
    assert without_measures(left) == without_measures(left_by(plain, tmp_path / "plain"))


def without_measures(left):
    """What a run has left, without what `evaluate` adds."""
    left["exhibits"].pop("continual_evaluation.npz", None)
    for each in (left["result"], *left["exhibits"].values()):
        del each["hash"]
    del left["result"]["exhibits"]
    for event in (left["result"], *left["events"]):
        for numbers in (event, event.get("metrics", {})):
            for name in CURVE_METRICS:
                numbers.pop(name, None)
        recorded = event.get("series", {})
        event["series"] = {k: v for k, v in recorded.items() if "anytime_accuracy" not in k}
    left["events"] = [
        each for each in left["events"] if each["event"] != "series" or each["series"]
    ]
    return left


def test_the_curves_end_where_r_does_and_the_result_has_their_numbers(tmp_path):
    one = small(tmp_path, OURS["combined"], evaluate={"every": 5})
    run(one, tmp_path)
    folder = one.directory(tmp_path)
    result = read_cell(folder, one.hash)
    with np.load(folder / "continual_evaluation.npz") as arrays:
        curves = ContinualEvaluation.from_arrays(arrays).curves
    assert curves.every == 5
    assert curves.accuracy[-1].tolist() == result.R[-1].tolist()
    assert result.metrics["AAA"] == pytest.approx(np.nanmean(curves.mean_over_seen()))
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    last = [event for event in told if event["event"] == "experience"][-1]
    assert last["WC_ACC"] == result.metrics["WC_ACC"]
    names = {name for event in told if event["event"] == "series" for name in event["series"]}
    assert {"anytime_accuracy/seen", "anytime_accuracy/experience_1"} <= names


def test_a_papers_area_is_over_as_many_mini_batches_as_ours(tmp_path):
    published = {"reference": "A paper", "LCA": {"naive": {"mean": 0.3, "std": 0.01}}}
    with pytest.raises(ConfigError, match=r"published.LCA: needs evaluate.beta, .*10 in A-GEM"):
        cell(tmp_path, evaluate={"every": 5}, published=published)
    ten = cell(tmp_path, evaluate={"every": 2, "beta": 10}, published=published)
    assert ten.hash != cell(tmp_path, evaluate={"every": 2}).hash
    run(ten, tmp_path)
    result = read_cell(ten.directory(tmp_path), ten.hash)
    with np.load(ten.directory(tmp_path) / "continual_evaluation.npz") as arrays:
        curves = ContinualEvaluation.from_arrays(arrays).curves
    assert result.metrics["LCA"] == learning_curve_area(curves, beta=10)
    assert result.metrics["LCA"] != learning_curve_area(curves)


@pytest.mark.parametrize(
    ("evaluate", "changed", "expected"),
    [
        # 60 samples in mini-batches of 5.
        ({"every": 11}, {}, ""),
        ({"every": 12}, {}, "inside it, and stability_gap is undefined"),
        (
            {"every": 50},
            {},
            "evaluate.every: is 50, but an experience has 12 mini-batches, so nothing is "
            "evaluated inside it, and stability_gap and LCA are undefined",
        ),
        (
            {"every": 5, "beta": 20},
            {},
            "evaluate.beta: is 20, but an experience has 12 mini-batches, so LCA is undefined",
        ),
        ({"every": 50}, {"training": {"batch_size": 5, "epochs": 5}}, ""),
        ({"every": 50}, {"training": {"batch_size": 5, "iterations": 8}}, "has 8 mini-batches"),
        (
            {"every": 31},
            {"benchmark": {**SMALL["benchmark"], "online": 8}, "training": {"batch_size": 2}},
            "has 30 mini-batches",
        ),
    ],
)
def test_check_notes_evaluations_that_come_too_late(tmp_path, evaluate, changed, expected):
    said = notes(experiment(tmp_path, evaluate=evaluate, methods={"naive": {}}, **changed))
    assert len(said) == bool(expected)
    assert all(expected in each for each in said)


def test_results_from_before_have_none_of_these_numbers(tmp_path):
    one = small(tmp_path, {})
    run(one, tmp_path)
    assert read_cell(one.directory(tmp_path), one.hash).metrics["AAA"] is None


def test_the_key_changes_the_hash_only_where_it_is_set(tmp_path):
    plain = cell(tmp_path)
    assert cell(tmp_path, evaluate=None).hash == plain.hash
    every = cell(tmp_path, evaluate={"every": 50})
    assert every.hash != plain.hash
    assert cell(tmp_path, evaluate={"every": 50, "test_size": None}).hash == every.hash
    assert cell(tmp_path, evaluate={"every": 50, "test_size": 10}).hash != every.hash


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"every": 0}, "evaluate.every: is 0, but must be greater than 0"),
        ({}, "evaluate.every: missing"),
        (50, "evaluate: is 50, but must be a mapping"),
        ({"evry": 5}, r"evaluate.evry: unknown key 'evry' \(did you mean 'every'\?\)"),
        ({"every": 5, "test_size": 0}, "evaluate.test_size: is 0, but must be greater than 0"),
        (
            {"every": 4, "beta": 10},
            "evaluate.beta: is 10, but must be a multiple of every, which is 4",
        ),
    ],
)
def test_mistakes_in_the_section_are_named(tmp_path, evaluate, message):
    with pytest.raises(ConfigError, match=message):
        cell(tmp_path, evaluate=evaluate)


def test_a_method_that_cannot_go_back_is_refused(tmp_path):
    packed = {
        "strategy": "avalanche:PackNet",
        "args": {"prune_proportion": 0.5, "post_prune_epochs": 1},
    }
    benchmark = {**DIGITS, "scenario": "task"}
    given = {"methods": {"packed": packed}, "benchmark": benchmark}
    training = {"batch_size": 5, "epochs": 2}
    assert cell(tmp_path, "packed", **given, training=training)
    with pytest.raises(ConfigError, match=r"methods.packed.strategy: .*cannot be evaluated inside"):
        cell(tmp_path, "packed", **given, training=training, evaluate={"every": 5})


def test_time_inside_a_phase_does_not_count_to_the_phase_around(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 3.0, 8.0, 8.0, 9.0, 9.0, 10.0])
    monkeypatch.setattr("avalanche_ext.runner.cell.perf_counter", lambda: next(now))
    watch = Stopwatch()
    with watch.phase("training"), watch.phase("evaluation"):
        pass
    seconds = watch.total()
    assert (seconds["training"], seconds["evaluation"]) == (2.0 + 1.0, 5.0)
