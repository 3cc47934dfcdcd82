"""Results as data: the numbers of the report, as tables, matrices, curves and series."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from avalanche_ext import results
from avalanche_ext.metrics.curves import AccuracyCurves, curve_summary
from avalanche_ext.report import plot_inside
from avalanche_ext.report.statistics import METRICS, method_statistics
from avalanche_ext.results.exhibits import ContinualEvaluation, FisherSpectra
from avalanche_ext.results.record import ResultsError
from tests.results.trees import (
    HASH,
    SECONDS,
    write_experiment,
    write_failure,
    write_result,
    write_spectrum,
)

R = {
    ("a", 0): [[0.9, 0.1], [0.5, 0.8]],
    ("a", 1): [[0.8, 0.2], [0.6, 0.9]],
    ("b", 0): [[0.7, 0.3], [0.7, 0.7]],
}
UNTRAINED = [0.05, 0.1]
CURVES = AccuracyCurves(
    2,
    np.array([0, 0, 1, 1, 1]),
    np.array([0, 2, 0, 2, 3]),
    np.array([[0.1, math.nan], [0.9, math.nan], [math.nan, 0.1], [0.2, 0.6], [0.5, 0.8]]),
)

DIGITS = {"n_experiences": 2, "train_transforms": ["./source/0a1b2c3d/mine.py:Crop"]}
CONFIG = {
    "experiment": "one",
    "method": "a",
    "seed": 0,
    "hash": HASH,
    "benchmark": {"name": "split_digits", "target": "x:y", "args": DIGITS},
    "model": {"name": "mlp", "target": "x:y", "args": {"hidden_sizes": [100, 100]}},
    "optimizer": {"name": "SGD", "target": "x:y", "args": {"lr": 0.05}},
    "training": {"batch_size": 5, "scheduler": {"name": "StepLR", "step_size": 3}},
    "strategy": {"name": "avalanche:Naive", "target": "x:y", "args": {}},
    "plugins": [
        {"name": "drl", "target": "x:y", "args": {"lam": 0.5, "layers": None}},
        {"name": "drl", "target": "x:y", "args": {"lam": 0.25}},
        {"name": "./source/0a1b2c3d/mine.py:Mine", "target": "x:y", "args": {"strength": 2}},
    ],
    "evaluate": {"every": 2, "test_size": None},
    "wandb": {"mode": "offline"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs of six, one failed and two missing; one was evaluated inside."""
    folder = tmp_path_factory.mktemp("out") / "one"
    write_experiment(folder, ["a", "b"], [0, 1, 2], baseline="a")
    for (method, seed), matrix in R.items():
        metrics = dict(curve_summary(CURVES)) if (method, seed) == ("a", 0) else {}
        write_result(folder, method, seed, matrix, UNTRAINED, metrics=metrics)
    write_failure(folder, "b", 1, "it broke")
    run = folder / "a" / "seed-0"
    (run / "config.yaml").write_text(yaml.safe_dump(CONFIG), "utf-8")
    arrays = ContinualEvaluation.of(CURVES).to_arrays()
    np.savez(run / "continual_evaluation.npz", hash=np.array(HASH), **arrays)
    write_spectrum(folder, "a", 0)
    events = [
        {"time": 1.0, "event": "start"},
        {"time": 2.0, "event": "series", "index": 0, "start": 0, "series": {"x": [1.0, None]}},
        {"time": 3.0, "event": "series", "index": 1, "start": 2, "series": {"x": [3.0], "y": [4]}},
    ]
    (run / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events), "utf-8")
    return folder


def test_numbers_are_those_of_the_report(folder: Path) -> None:
    loaded = results.load(folder)
    means = loaded.frame().groupby("method")[[*METRICS]].mean()
    for each in method_statistics(loaded.experiments[0]):
        for name, number in each.metrics.items():
            ours = means.loc[each.name, name]
            assert ours == pytest.approx(number.mean if number else math.nan, nan_ok=True), name


def test_a_run_has_one_row_with_its_metrics_times_and_configuration(folder: Path) -> None:
    loaded = results.load(folder)
    assert (loaded.methods, loaded.seeds) == (["a", "b"], [0, 1, 2])
    assert repr(loaded) == "Results(one: 2 methods x 3 seeds, 3 of 6 runs finished)"
    frame = loaded.frame()
    assert frame[["experiment", "method", "seed"]].to_numpy().tolist() == [
        ["one", *each] for each in R
    ]
    row = frame.iloc[0]
    assert (row["ACC"], row["BWT"]) == (pytest.approx(0.65), pytest.approx(-0.4))
    assert (row["split"], row["iid"], row["seconds_training"]) == (
        "test",
        False,
        SECONDS["training"],
    )
    assert row["stability_gap"] == pytest.approx(0.3)
    configured = {
        "benchmark": "split_digits",
        "benchmark.n_experiences": 2,
        "model.hidden_sizes": "[100, 100]",
        "optimizer": "SGD",
        "optimizer.lr": 0.05,
        "training.batch_size": 5,
        "training.scheduler.step_size": 3,
        "strategy": "avalanche:Naive",
        "benchmark.train_transforms": '["./mine.py:Crop"]',
        "plugins": "drl + drl + ./mine.py:Mine",
        "plugins.Mine.strength": 2,
        "plugins.drl.lam": 0.5,
        "plugins.drl-2.lam": 0.25,
        "evaluate.every": 2,
    }
    assert {name: row[name] for name in configured} == configured
    assert not any(name.startswith(("wandb", "hash")) for name in frame.columns)
    assert "optimizer.lr" not in loaded.frame(config=False)
    numbers = frame[[*METRICS]]
    assert (numbers.dtypes == "float64").all()


def test_a_configuration_of_another_run_does_not_count(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_experiment(other, ["a"], [0])
    write_result(other, "a", 0, R["a", 0], hash="another")
    (other / "a" / "seed-0" / "config.yaml").write_text(yaml.safe_dump(CONFIG), "utf-8")
    assert "optimizer.lr" not in results.load(other).frame()


def test_long_forms_count_experiences_from_one(folder: Path) -> None:
    loaded = results.load(folder)
    long = loaded.frame("experience")
    assert len(long) == 3 * 3 * 2
    of_run = long[(long.method == "a") & (long.seed == 1)]
    table = of_run.pivot(index="after", columns="experience", values="accuracy")
    assert table.index.tolist() == [0, 1, 2]
    assert table.columns.tolist() == [1, 2]
    assert table.to_numpy().tolist() == [UNTRAINED, *R["a", 1]]
    inside = loaded.frame("evaluation")
    columns = ["method", "seed", "learning", "batch", "experience", "accuracy"]
    assert inside[columns].to_numpy().tolist() == [
        ["a", 0, 1, 0, 1, 0.1],
        ["a", 0, 1, 2, 1, 0.9],
        ["a", 0, 2, 0, 2, 0.1],
        ["a", 0, 2, 2, 1, 0.2],
        ["a", 0, 2, 2, 2, 0.6],
        ["a", 0, 2, 3, 1, 0.5],
        ["a", 0, 2, 3, 2, 0.8],
    ]
    with pytest.raises(ValueError, match="per must be 'run', 'experience' or 'evaluation'"):
        loaded.frame("seed")  # type: ignore[arg-type]


def test_a_run_that_learns_all_at_once_has_no_rows_between(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, R["a", 0], UNTRAINED, iid=True)
    rows = results.load(tmp_path).frame("experience")[["after", "experience", "accuracy"]]
    assert rows.to_numpy().tolist() == [
        *([0, j, accuracy] for j, accuracy in enumerate(UNTRAINED, 1)),
        *([2, j, accuracy] for j, accuracy in enumerate(R["a", 0][-1], 1)),
    ]


def test_matrices_curves_series_and_exhibits_of_a_run(folder: Path) -> None:
    loaded = results.load(folder)
    assert loaded.matrix("a", 1).tolist() == R["a", 1]
    np.testing.assert_allclose(loaded.matrix("a"), np.mean([R["a", 0], R["a", 1]], axis=0))
    assert loaded.curves("a", 0).batch.tolist() == CURVES.batch.tolist()
    series = loaded.series("a", 0)
    assert series.index.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(series["x"], [1.0, math.nan, 3.0])
    np.testing.assert_array_equal(series["y"], [math.nan, math.nan, 4.0])
    assert loaded.series("b", 0).empty
    spectra = loaded.exhibits(FisherSpectra, "a")
    assert [*spectra] == [0]
    assert spectra[0].trace.tolist() == [2.0, 8.0]


@pytest.mark.parametrize(
    "plugins", ["[drl]", "[{args: {}}]", "[{name: drl, args: &it {it: *it}}]"], ids=repr
)
def test_a_malformed_configuration_is_named(tmp_path: Path, plugins: str) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, R["a", 0], UNTRAINED)
    path = tmp_path / "a" / "seed-0" / "config.yaml"
    path.write_text(f"hash: {HASH}\nplugins: {plugins}\n", "utf-8")
    with pytest.raises(ResultsError, match=re.escape(f"{path}: malformed (")):
        results.load(tmp_path).frame()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "series", "start": 0},
        {"event": "series", "series": {"x": [1.0]}},
        {"event": "series", "start": "x", "series": {"x": [1.0]}},
        {"event": "series", "start": 0, "series": {"x": ["y"]}},
        {"event": "series", "start": 0, "series": []},
    ],
    ids=repr,
)
def test_malformed_series_are_named(tmp_path: Path, event: dict[str, Any]) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, R["a", 0], UNTRAINED)
    path = tmp_path / "a" / "seed-0" / "events.jsonl"
    lines = [{"time": 1.0}, {"time": 2.0, **event}]  # Others' events count for nothing.
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    with pytest.raises(ResultsError, match=re.escape(f"{path}: malformed (")):
        results.load(tmp_path).series("a", 0)


def test_what_is_missing_is_listed_and_named(folder: Path) -> None:
    loaded = results.load(folder)
    absent = loaded.absent()
    assert absent.fillna("–").to_numpy().tolist() == [
        ["one", "a", 2, "–"],
        ["one", "b", 1, "it broke"],
        ["one", "b", 2, "–"],
    ]
    for ask, message in (
        (lambda: loaded.matrix("c"), r"there is no method 'c' \(known: a, b\)"),
        (lambda: loaded.matrix("a", 2), "a, seed 2: has not finished; finished: 0, 1"),
        (lambda: loaded.matrix("a", 0, "two"), r"there is no experiment 'two' \(known: one\)"),
        (lambda: loaded.curves("a", 1), "was not evaluated inside experiences: run it with"),
    ):
        with pytest.raises(ResultsError, match=message):
            ask()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_experiment(tmp_path / "one", ["a"], [0])
    path = write_result(tmp_path / "one", "a", 0, R["a", 0])
    (path.parent / "continual_evaluation.npz").write_bytes(b"damaged")
    loaded = results.load(tmp_path / "one")
    assert len(loaded.frame()) == 1
    for ask in (lambda: loaded.frame("evaluation"), lambda: loaded.curves("a", 0)):
        with pytest.raises(ResultsError, match=r"one/a/seed-0/continual_evaluation.npz: "):
            ask()
    with pytest.raises(ResultsError, match=r"one/a/seed-0/continual_evaluation.npz: "):
        plot_inside(loaded)


def test_a_damaged_file_of_another_seed_does_not_matter(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "torn" / "one")
    torn = folder.parent / "torn" / "one"
    (torn / "a" / "seed-1" / "continual_evaluation.npz").write_bytes(b"damaged")
    assert results.load(torn).curves("a", 0).batch.tolist() == CURVES.batch.tolist()


def test_a_configuration_that_is_gone_is_warned_of(folder: Path) -> None:
    bare = folder.parent / "bare" / "one"
    shutil.copytree(folder, bare)
    (bare / "a" / "seed-0" / "config.yaml").unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=r"a/seed-0/config.yaml: left out of the table: "):
        assert len(results.load(bare).frame()) == 3


def test_several_experiments_are_one_table(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "two"
    write_experiment(other, ["a", "c"], [0])
    write_result(other, "a", 0, R["b", 0])
    loaded = results.load(folder, other)
    assert loaded.methods == ["a", "b", "c"]
    counts = loaded.frame().groupby(["experiment", "method"]).size()
    assert counts.to_dict() == {("one", "a"): 2, ("one", "b"): 1, ("two", "a"): 1}
    assert loaded.matrix("a", 0, "two").tolist() == R["b", 0]
    assert loaded.matrix("b", 0).tolist() == R["b", 0]
    with pytest.raises(ResultsError, match="several experiments have a method 'a': choose one of"):
        loaded.matrix("a", 0)
    with pytest.raises(ResultsError, match="there are several experiments: choose one of one, two"):
        loaded.experiment()
    with pytest.raises(ResultsError, match="c: no run has finished yet"):
        loaded.matrix("c")
    with pytest.raises(ResultsError, match="two of the folders hold an experiment named 'one'"):
        results.load(folder, folder)
    with pytest.raises(ResultsError, match="give the folder of an experiment"):
        results.load()


def test_an_experiment_that_has_not_begun_is_an_empty_table(tmp_path: Path) -> None:
    write_experiment(tmp_path / "new", ["a"], [0])
    loaded = results.load(tmp_path / "new")
    for per in ("run", "experience", "evaluation"):
        frame = loaded.frame(per)
        assert frame.columns.tolist() == ["experiment", "method", "seed"]
        assert frame.empty


def test_neither_loading_nor_plotting_imports_torch(folder: Path) -> None:
    code = f"""
import sys
from avalanche_ext import report, results
assert not {{"pandas", "matplotlib", "scipy"}} & set(sys.modules)
loaded = results.load({str(folder)!r})
loaded.frame()
report.plot_accuracy(loaded)
assert not {{"torch", "avalanche", "wandb"}} & set(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, env={"MPLBACKEND": "agg"}
    )
