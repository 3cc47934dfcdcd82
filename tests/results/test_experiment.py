"""Reading results back: what counts as finished, failed and missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avalanche_ext.metrics.curves import CURVE_METRICS
from avalanche_ext.report.style import chosen_on_test
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import ResultsError
from tests.results.trees import (
    HASH,
    SECONDS,
    two_by_two,
    write_experiment,
    write_failure,
    write_result,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An experiment of two methods and two seeds, with no results yet."""
    write_experiment(tmp_path / "exp", ["ber", "drl"], [0, 1], baseline="ber")
    return tmp_path / "exp"


def test_a_finished_run_is_read_whole(directory: Path) -> None:
    write_result(directory, "drl", 1, two_by_two(0.6), untrained=[0.2, 0.3])
    results = read_results(directory)
    assert (results.name, results.baseline, results.seeds) == ("exp", "ber", (0, 1))
    cell = results.methods[1].cells[1]
    np.testing.assert_array_equal(cell.R, two_by_two(0.6))
    np.testing.assert_array_equal(cell.untrained, [0.2, 0.3])
    assert cell.seconds == SECONDS


def test_metrics_come_from_the_matrix_not_from_the_file(directory: Path) -> None:
    write_result(directory, "drl", 1, two_by_two(0.6), metrics={"ACC": 0.99})
    assert read_results(directory).methods[1].cells[1].metrics["ACC"] == pytest.approx(0.75)


def test_instance_accuracy_weights_experiences_by_their_size(directory: Path) -> None:
    write_result(directory, "drl", 1, two_by_two(0.6, learned=0.9), test_sizes=[30, 10])
    metrics = read_results(directory).methods[1].cells[1].metrics
    assert metrics["instance_accuracy"] == pytest.approx((30 * 0.6 + 10 * 0.9) / 40)
    assert metrics["ACC"] == pytest.approx(0.75)


def test_a_result_from_before_sizes_were_written_lacks_only_what_needs_them(
    directory: Path,
) -> None:
    path = write_result(directory, "drl", 1, two_by_two(0.6))
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["test_sizes"]
    path.write_text(json.dumps(content), encoding="utf-8")
    metrics = read_results(directory).methods[1].cells[1].metrics
    undefined = [name for name, value in metrics.items() if value is None]
    assert undefined == ["instance_accuracy", *CURVE_METRICS]


def test_methods_and_seeds_keep_the_order_of_the_experiment(tmp_path: Path) -> None:
    write_experiment(tmp_path / "exp", ["z", "a"], [7, 3])
    for seed in (3, 7):
        write_result(tmp_path / "exp", "a", seed, two_by_two(seed / 10))
    results = read_results(tmp_path / "exp")
    assert [method.name for method in results.methods] == ["z", "a"]
    assert list(results.methods[1].cells) == [7, 3]
    np.testing.assert_array_equal(results.methods[1].matrices, [two_by_two(0.7), two_by_two(0.3)])


def test_methods_and_seeds_no_longer_asked_for_are_left_out(directory: Path) -> None:
    write_result(directory, "drl", 2, two_by_two(0.6))
    write_result(directory, "dropped", 0, two_by_two(0.6))
    results = read_results(directory)
    assert [method.name for method in results.methods] == ["ber", "drl"]
    assert not results.finished
    assert results.unnamed == {"dropped": [0], "drl": [2]}


def test_only_results_of_runs_count_as_not_named(directory: Path) -> None:
    for seed in (0, 1, 11, 2):
        write_result(directory, "drl", seed, two_by_two(0.6))
    write_failure(directory, "drl", 3, "loss became NaN")
    result = directory / "drl" / "seed-2" / "result.json"
    result.rename(result.with_name(f"result-{HASH}.json"))
    shutil.copytree(directory / "drl" / "seed-0", directory / "drl" / "seed-0-copy")
    write_result(directory / "inner", "drl", 5, two_by_two(0.6))
    write_result(directory.with_name("exp-tuning"), "drl", 7, two_by_two(0.6))
    assert read_results(directory).unnamed == {"drl": [11]}


def test_failed_and_missing_runs_are_distinguished(directory: Path) -> None:
    write_result(directory, "ber", 0, two_by_two(0.6))
    write_failure(directory, "ber", 1, "loss became NaN")
    ber, drl = read_results(directory).methods
    assert (list(ber.cells), ber.failures, ber.missing) == ([0], {1: "loss became NaN"}, [])
    assert (drl.cells, drl.failures, drl.missing) == ({}, {}, [0, 1])


def test_a_result_outweighs_a_failure_next_to_it_unless_it_is_damaged(directory: Path) -> None:
    write_failure(directory, "ber", 0, "out of memory")
    write_result(directory, "ber", 0, two_by_two(0.6))
    assert (directory / "ber" / "seed-0" / "failure.json").exists()
    ber = read_results(directory).methods[0]
    assert [*ber.cells] == [0]
    assert not ber.failures
    (directory / "ber" / "seed-0" / "result.json").write_text("{")
    assert read_results(directory).methods[0].failures == {0: "out of memory"}


def test_results_of_an_earlier_configuration_are_missing(tmp_path: Path) -> None:
    directory = tmp_path / "exp"
    write_experiment(directory, ["ber"], [0, 1, 2], hashes={"ber": {0: HASH, 1: "new", 2: "new"}})
    write_result(directory, "ber", 0, two_by_two(0.6))
    write_result(directory, "ber", 1, two_by_two(0.6))
    write_failure(directory, "ber", 2, "out of memory")
    ber = read_results(directory).methods[0]
    assert (list(ber.cells), ber.failures, ber.missing) == ([0], {}, [1, 2])


def test_an_earlier_failure_does_not_hide_the_new_result(tmp_path: Path) -> None:
    directory = tmp_path / "exp"
    write_experiment(directory, ["ber"], [0], hashes={"ber": {0: HASH}})
    write_failure(directory, "ber", 0, "out of memory", run_hash="old")
    write_result(directory, "ber", 0, two_by_two(0.6))
    assert list(read_results(directory).methods[0].cells) == [0]


def truncate(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "damage", "message"),
    [
        ({}, truncate, "JSONDecodeError"),
        ({"format": 2}, None, "later version; update avalanche-ext"),
        ({"R": [[0.5, 0.1], [80.0, 0.5]]}, None, r"R[1, 0] is 80.0"),
        (
            {"R": [[0.5, 0.1]], "untrained": [0.1, 0.1]},
            None,
            "R must be square, but has shape (1, 2)",
        ),
        ({"untrained": [0.1]}, None, "has shape (1,)"),
        ({"test_sizes": [10]}, None, "sizes must have one entry per column of R, (2,)"),
        ({"test_sizes": [10, 0]}, None, "sizes[1] is 0.0"),
        ({"R": 0.5, "untrained": [0.1]}, None, "R must have one row per experience"),
        ({"seconds": {"total": 1.0}}, None, "setup"),
    ],
)
def test_an_unreadable_result_is_a_failed_run(
    directory: Path, changes: dict[str, Any], damage: Callable[[Path], None] | None, message: str
) -> None:
    path = write_result(directory, "ber", 0, **({"R": two_by_two(0.6)} | changes))
    if damage:
        damage(path)
    ber = read_results(directory).methods[0]
    assert not ber.cells
    assert ber.failures[0].startswith("unreadable result file: ")
    assert message in ber.failures[0]


def test_what_was_swept_is_read_in_order(tmp_path: Path) -> None:
    values = {"z-2": 2, "z-0.5": 0.5}
    write_experiment(tmp_path, ["a", "z-2", "z-0.5", "b"], [0], sweeps={"z": ("lam", values)})
    results = read_results(tmp_path)
    assert results.sweeps["z"].parameter == "lam"
    assert [*results.sweeps["z"].values.items()] == [*values.items()]
    groups = {name: [each.name for each in group] for name, group in results.groups.items()}
    assert [*groups.items()] == [("a", ["a"]), ("z", ["z-2", "z-0.5"]), ("b", ["b"])]


def test_a_folder_from_before_there_were_sweeps_has_none(directory: Path) -> None:
    results = read_results(directory)
    assert not results.sweeps
    assert [*results.groups] == ["ber", "drl"]
    assert results.with_best_settings() == results


def test_claims_are_read_in_order(tmp_path: Path) -> None:
    claims = [("b", "a"), ("a", "c")]
    write_experiment(tmp_path, ["a", "b", "c"], [0], claims=claims)
    read = read_results(tmp_path).claims
    assert [(claim.higher, claim.lower) for claim in read] == claims


def test_a_folder_from_before_there_were_claims_has_none(directory: Path) -> None:
    assert read_results(directory).claims == ()


def test_the_best_setting_of_a_sweep_has_the_highest_mean_accuracy(tmp_path: Path) -> None:
    sweeps = {
        "x": ("lam", {"x-1": 1, "x-2": 2, "x-3": 3}),
        "never": ("lam", {"never-1": 1, "never-2": 2}),
    }
    names = ["x-1", "x-2", "x-3", "a", "never-1", "never-2"]
    write_experiment(tmp_path, names, [0, 1], sweeps=sweeps)
    for name, lasts in {"x-1": [0.9, 0.1], "x-2": [0.6, 0.7], "a": [0.2, 0.2]}.items():
        for seed, last in enumerate(lasts):
            write_result(tmp_path, name, seed, two_by_two(last))
    best = read_results(tmp_path).with_best_settings()
    assert [method.name for method in best.methods] == ["x-2", "a", "never-1"]
    assert [method.name for method in best.finished] == ["x-2", "a"]


def test_a_setting_with_one_lucky_run_is_not_the_best(tmp_path: Path) -> None:
    sweeps = {"x": ("lam", {"x-1": 1, "x-2": 2})}
    write_experiment(tmp_path, ["x-1", "x-2"], [0, 1], sweeps=sweeps)
    for name, lasts in {"x-1": [0.7, 0.5], "x-2": [0.65]}.items():
        for seed, last in enumerate(lasts):
            write_result(tmp_path, name, seed, two_by_two(last))
    results = read_results(tmp_path)
    (best,) = results.with_best_settings().methods
    assert best.name == "x-1"
    assert chosen_on_test(results)[0].endswith("(among those with the most finished runs)")


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"AAA": float("nan")}},
        {"metrics": {"WC_ACC": 77}},
        {"metrics": {"LCA": -0.5}},
        {"iid": "false"},
        {"seconds": {**SECONDS, "training": float("inf")}},
        {"memory": {"peak": float("nan")}},
    ],
    ids=str,
)
def test_a_number_that_cannot_be_is_no_result(directory: Path, changes: dict[str, Any]) -> None:
    write_result(directory, "ber", 0, two_by_two(0.5), **changes)
    ber, _ = read_results(directory).methods
    assert ber.failures[0].startswith("unreadable result file: ")


def test_runs_of_different_lengths_are_refused(directory: Path) -> None:
    write_result(directory, "ber", 0, two_by_two(0.6))
    write_result(directory, "drl", 1, [[0.9]])
    message = r"exp: .*2 in ber/seed-0, 1 in drl/seed-1.*run .* again"
    with pytest.raises(ResultsError, match=message):
        read_results(directory)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (None, r"record\.yaml: no such file; give the folder of an experiment"),
        ("a: [", r"record\.yaml: not YAML"),
        ("just text", r"record\.yaml: must hold a mapping, but holds 'just text'"),
        ("name: exp\nmethods: [ber]\nbaseline: ber", r"record\.yaml: no entry 'seeds'"),
        ("name: e\nmethods: [a]\nbaseline: a\nseeds: null", r"record\.yaml: malformed"),
        ("name: e\nmethods: [a]\nbaseline: a\nseeds: [x]", r"record\.yaml: malformed"),
        ("name: e\nmethods: [a]\nbaseline: a\nseeds: [0]\nclaims: ['a > b']", r"malformed"),
        ("name: e\nmethods: [a]\nbaseline: a\nseeds: [0]\nsweeps: {s: 3}", r"malformed"),
    ],
)
def test_a_folder_that_holds_no_experiment_is_refused(
    tmp_path: Path, record: str | None, message: str
) -> None:
    if record is not None:
        (tmp_path / "record.yaml").write_text(record, encoding="utf-8")
    with pytest.raises(ResultsError, match=message):
        read_results(tmp_path)


def test_a_folder_of_an_earlier_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("name: exp\nhashes: {}\n", encoding="utf-8")
    with pytest.raises(ResultsError, match=r"earlier version: run the experiment again with the"):
        read_results(tmp_path)
