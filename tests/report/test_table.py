"""The text table, read as a person reads it, and the CSV file, read as a program does."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.report.layout import p_value
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import csv_table, text_table
from avalanche_ext.results.experiment import read_results
from tests.results.trees import (
    SECONDS,
    two_by_two,
    write_experiment,
    write_failure,
    write_points,
    write_result,
)


def text_of(directory: Path) -> str:
    results = read_results(directory)
    return text_table(results, method_statistics(results))


def csv_of(directory: Path) -> list[dict[str, str]]:
    results = read_results(directory)
    return list(csv.DictReader(io.StringIO(csv_table(results, method_statistics(results)))))


def cells_of(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table that begins with a heading, by first cell; columns two spaces apart."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(heading))
    rows: dict[str, list[str]] = {}
    for line in lines[start:]:
        if not line:
            break
        first, *rest = re.split(r" {2,}", line)
        rows[first] = rest
    return rows


def write_methods(directory: Path, methods: dict[str, Sequence[float]], **settings: Any) -> None:
    seeds = range(max(len(values) for values in methods.values()))
    write_experiment(directory, list(methods), list(seeds), **settings)
    for method, lasts in methods.items():
        for seed, last in enumerate(lasts):
            write_result(directory, method, seed, two_by_two(last))


def test_whole_report_of_a_small_experiment(tmp_path: Path) -> None:
    published = {"reference": "A paper, Table 1", "ACC": {"drl": {"mean": 0.8, "std": 0.01}}}
    write_methods(
        tmp_path / "digits",
        {"ber": [0.5, 0.6, 0.4], "drl": [0.7, 0.8, 0.4]},
        baseline="ber",
        published=published,
    )
    assert text_of(tmp_path / "digits") == (
        "digits: 2 methods x 3 seeds, 6 of 6 runs finished\n"
        "\n"
        "method  runs  ACC            BWT             FWT             forgetting     "
        "intransigence  seconds\n"
        "ber     3     0.700 ± 0.050  -0.400 ± 0.100  +0.000 ± 0.000  0.400 ± 0.100  "
        "0.000 ± 0.000  2.00 ± 0.00\n"
        "drl     3     0.767 ± 0.104  -0.267 ± 0.208  +0.000 ± 0.000  0.267 ± 0.208  "
        "0.000 ± 0.000  2.00 ± 0.00\n"
        "\n"
        "Accuracies are fractions; ± is the sample standard deviation over seeds; seconds are "
        "those of training alone.\n"
        "BWT, FWT: Lopez-Paz and Ranzato (2017). Forgetting, intransigence: Chaudhry et al. "
        "(2018), intransigence\n"
        "against the best of these methods. ACC, FWT, BWT: higher is better; the others: lower.\n"
        "\n"
        "ACC against ber, paired by seed (two-sided tests, not corrected for their number)\n"
        "method  pairs  difference      t-test p\n"
        "drl     3      +0.067 ± 0.058  0.184\n"
        "\n"
        "BWT against ber, paired by seed (two-sided tests, not corrected for their number)\n"
        "method  pairs  difference      t-test p\n"
        "drl     3      +0.133 ± 0.115  0.184\n"
        "\n"
        "Beside A paper, Table 1\n"
        "metric  method  ours           published      difference  in published std\n"
        "ACC     drl     0.767 ± 0.104  0.800 ± 0.010  -0.033      -3.3\n"
    )


def test_one_seed_has_neither_deviation_nor_p(tmp_path: Path) -> None:
    write_methods(tmp_path, {"ber": [0.5], "drl": [0.7]}, baseline="ber")
    text = text_of(tmp_path)
    assert "1 seed, 2 of 2 runs finished" in text
    assert cells_of(text, "method  runs")["drl"][:2] == ["1", "0.800 ± –"]
    assert cells_of(text, "method  pairs")["drl"] == ["1", "+0.100 ± –", "–"]


def test_bwt_that_no_run_defines_is_not_tested(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], [0], baseline="ber")
    write_result(tmp_path, "ber", 0, [[0.9]])
    write_result(tmp_path, "drl", 0, [[0.8]])
    text = text_of(tmp_path)
    assert "ACC against ber" in text
    assert "BWT against" not in text


def test_wilcoxon_joins_in_at_six_pairs(tmp_path: Path) -> None:
    lasts = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    write_methods(
        tmp_path, {"ber": lasts, "drl": [x + x / 4 for x in lasts], "er": [0.5]}, baseline="ber"
    )
    rows = cells_of(text_of(tmp_path), "method  pairs")
    assert rows["method"] == ["pairs", "difference", "t-test p", "Wilcoxon p"]
    assert rows["drl"][-1] == "0.031"
    assert rows["er"] == ["1", "+0.200 ± –", "–", "–"]


def test_small_p_is_a_bound(tmp_path: Path) -> None:
    write_methods(
        tmp_path,
        {"ber": [0.1, 0.11, 0.1, 0.11], "drl": [0.8, 0.8, 0.81, 0.81]},
        baseline="ber",
    )
    assert cells_of(text_of(tmp_path), "method  pairs")["drl"][-1] == "<0.001"


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "–"), (0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0049, "0.005")],
)
def test_only_p_below_what_three_decimals_show_is_a_bound(p: float | None, text: str) -> None:
    assert p_value(p) == text


def test_tiny_negative_numbers_have_no_sign(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, [[0.9, 0.1], [0.8999, 0.9]])
    assert cells_of(text_of(tmp_path), "method  runs")["a"][2] == "+0.000 ± –"


def test_what_failed_and_what_is_missing_is_told(tmp_path: Path) -> None:
    write_experiment(tmp_path / "exp", ["ber", "drl"], [0, 1, 2], baseline="ber")
    write_result(tmp_path / "exp", "ber", 0, two_by_two(0.5))
    write_result(tmp_path / "exp", "ber", 1, two_by_two(0.6))
    write_failure(tmp_path / "exp", "drl", 0, "loss became NaN at iteration 312")
    text = text_of(tmp_path / "exp")
    assert text.startswith("exp: 2 methods x 3 seeds, 2 of 6 runs finished\n")
    summary = cells_of(text, "method  runs")
    assert summary["ber"][:2] == ["2/3", "0.725 ± 0.035"]
    assert summary["drl"] == ["0/3", *["–"] * 6]
    assert cells_of(text, "method  pairs")["drl"] == ["0", "–", "–"]
    assert "1 run failed:\n  drl, seed 0: loss became NaN at iteration 312\n" in text
    assert "3 runs not there yet" in text
    assert "  ber, seed 2\n  drl, seeds 1, 2\n" in text


def test_nothing_finished_is_still_a_report(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber"], [0], baseline="ber")
    text = text_of(tmp_path)
    assert "0 of 1 runs finished" in text
    assert cells_of(text, "method  runs")["ber"] == ["0/1", *["–"] * 6]


SWEEPS = {
    "good": ("lam", {"good-0": 0, "good-1": 1}),
    "worse": ("lam", {"worse-0": 0, "worse-1": 1, "worse-2": 2}),
}


def test_domination_counts_the_settings_that_another_method_betters(tmp_path: Path) -> None:
    points = {
        "good-0": (0.9, -0.2),
        "good-1": (0.7, -0.1),
        "worse-0": (0.9, -0.3),
        "worse-1": (0.7, -0.1),
        "worse-2": (0.6, -0.05),
        "alone": (0.95, -0.01),
    }
    write_points(tmp_path, points, SWEEPS)
    text = text_of(tmp_path)
    start = text.index("Column's settings dominated")
    assert text[start:].splitlines()[1:4] == [
        "lam    good    worse",
        "good   –       1 of 3",
        "worse  0 of 2  –",
    ]


def test_domination_is_among_the_sweeps_of_one_parameter(tmp_path: Path) -> None:
    points = {
        **{"a-0": (0.9, -0.1), "b-0": (0.8, -0.2), "b-1": (0.95, -0.3)},
        **{"c-1": (0.7, -0.3), "d-1": (0.6, -0.2), "e-1": (0.5, -0.5)},
    }
    sweeps = {
        "a": ("lam", {"a-0": 0}),
        "c": ("lr", {"c-1": 1}),
        "b": ("lam", {"b-0": 0, "b-1": 1}),
        "d": ("lr", {"d-1": 1}),
        "e": ("n_steps", {"e-1": 1}),
    }
    write_points(tmp_path, points, sweeps)
    tables = text_of(tmp_path).split("Column's settings dominated")[1:]
    assert [table.splitlines()[1:4] for table in tables] == [
        ["lam  a       b", "a    –       1 of 2", "b    0 of 1  –"],
        ["lr  c       d", "c   –       0 of 1", "d   0 of 1  –"],
    ]


@pytest.mark.parametrize("finished", [["good-0", "good-1"], ["worse-2", "alone"], []])
def test_without_two_swept_methods_to_compare_there_is_no_domination(
    finished: list[str], tmp_path: Path
) -> None:
    names = [*SWEEPS["good"][1], *SWEEPS["worse"][1], "alone"]
    write_experiment(tmp_path, names, [0], sweeps=SWEEPS)
    for name in finished:
        write_result(tmp_path, name, 0, two_by_two(0.5))
    assert "dominates" not in text_of(tmp_path)


def test_csv_has_every_number_at_full_precision(tmp_path: Path) -> None:
    write_methods(tmp_path, {"ber": [0.5, 0.6], "drl": [0.7, 0.9]}, baseline="ber")
    results = read_results(tmp_path)
    statistics = method_statistics(results)
    rows = csv_of(tmp_path)
    for row, expected in zip(rows, statistics, strict=True):
        assert row["method"] == expected.name
        assert (row["finished"], row["failed"], row["missing"]) == ("2", "0", "0")
        for name, value in expected.metrics.items():
            assert value is not None
            assert float(row[f"{name}_mean"]) == value.mean
            assert float(row[f"{name}_std"]) == value.std
        for phase, seconds in SECONDS.items():
            assert float(row[f"seconds_{phase}_mean"]) == seconds
    for metric, prefix in (("ACC", ""), ("BWT", "BWT_")):
        test = statistics[1].tests[metric]
        assert test.difference is not None
        assert float(rows[1][f"{metric}_difference_mean"]) == test.difference.mean
        assert float(rows[1][f"{metric}_difference_std"]) == test.difference.std
        assert float(rows[1][f"{prefix}p_t_test"]) == test.t_test
        assert rows[1][f"{prefix}p_wilcoxon"] == ""
        assert (rows[0][f"{prefix}pairs"], rows[1][f"{prefix}pairs"]) == ("", "2")


def test_csv_leaves_undefined_numbers_empty(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0], baseline="a")
    write_result(tmp_path, "a", 0, [[0.9]])
    write_failure(tmp_path, "b", 0, "out of memory")
    a, b = csv_of(tmp_path)
    assert (a["ACC_mean"], a["ACC_std"], a["BWT_mean"]) == ("0.9", "", "")
    assert (b["finished"], b["failed"], b["ACC_mean"], b["p_t_test"]) == ("0", "1", "", "")
