"""The text table, read as a person reads it, and the CSV file, read as a program does."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.report.csv_table import csv_table
from avalanche_ext.report.layout import p_value
from avalanche_ext.report.sheets import sheet_of
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import text_table
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
    return list(csv.DictReader(io.StringIO(csv_table([(results, method_statistics(results))]))))


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
        "method  ACC            BWT             learned    AIA  seconds\n"
        "ber     0.700 ± 0.050  -0.400 ± 0.100    0.900  0.800     2.00\n"
        "drl     0.767 ± 0.104  -0.267 ± 0.208    0.900  0.833     2.00\n"
        "\n"
        "Accuracies are fractions; ± is the sample standard deviation over seeds. BWT, FWT: as in "
        "Lopez-Paz and Ranzato\n"
        "(2017). learned: accuracy on each experience right after training on it. AIA: average "
        "incremental accuracy.\n"
        "seconds: training time, without evaluation. FWT is +0.000 ± 0.000 for all methods. "
        "Forgetting (Chaudhry et\n"
        "al., 2018) equals -BWT. Intransigence (Chaudhry et al., 2018; relative to the best of "
        "these methods) equals\n"
        "0.900 - learned. d: Cohen's d of the paired differences. wins: seeds with the "
        "higher value.\n"
        "\n"
        "ACC against ber, paired by seed; two-sided tests; Holm p: corrected for the tests in this "
        "table\n"
        "method  difference      d     wins   t-test p  Holm p\n"
        "drl     +0.067 ± 0.058  +1.2  2.5/3  0.184     0.184\n"
        "Caution: too few pairs for reliable tests and intervals (only 3 seeds).\n"
        "\n"
        "BWT against ber, paired by seed; two-sided tests; Holm p: corrected for the tests in this "
        "table\n"
        "method  difference      d     wins   t-test p  Holm p\n"
        "drl     +0.133 ± 0.115  +1.2  2.5/3  0.184     0.184\n"
        "Caution: too few pairs for reliable tests and intervals (only 3 seeds).\n"
        "\n"
        "Compared with A paper, Table 1\n"
        "metric  method  ours           published      difference  in published std\n"
        "ACC     drl     0.767 ± 0.104  0.800 ± 0.010  -0.033      -3.3\n"
    )


def test_one_seed_has_neither_deviation_nor_p(tmp_path: Path) -> None:
    write_methods(tmp_path, {"ber": [0.5], "drl": [0.7]}, baseline="ber")
    text = text_of(tmp_path)
    assert "1 seed, 2 of 2 runs finished" in text
    assert cells_of(text, "method    ACC")["drl"][0] == "0.800"
    assert "±" not in text
    rows = cells_of(text, "method  difference")
    assert (rows["method"], rows["drl"]) == (["difference", "wins"], ["+0.100", "1/1"])


def test_bwt_that_no_run_defines_has_no_column_and_is_not_tested(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], [0], baseline="ber")
    write_result(tmp_path, "ber", 0, [[0.9]])
    write_result(tmp_path, "drl", 0, [[0.8]])
    text = text_of(tmp_path)
    assert "ACC against ber" in text
    assert "BWT" not in text
    assert cells_of(text, "method    ACC")["method"] == ["ACC", "seconds"]


def test_intervals_come_with_five_pairs_and_wilcoxon_with_six(tmp_path: Path) -> None:
    lasts = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    higher = [x + x / 4 for x in lasts]
    write_methods(
        tmp_path,
        {"ber": lasts, "drl": higher, "er": [0.5], "five": higher[:5]},
        baseline="ber",
    )
    text = text_of(tmp_path)
    rows = cells_of(text, "method  difference")
    assert rows["method"] == [
        *["difference", "95 % interval", "d", "wins"],
        *["t-test p", "Holm p", "Wilcoxon p", "Holm p"],
    ]
    assert rows["drl"][2:] == ["+1.9", "6/6", "0.006", "0.012", "0.031", "0.031"]
    assert re.fullmatch(r"\[\+0\.0\d\d, \+0\.0\d\d\]", rows["drl"][1])
    assert rows["five"][-2:] == ["–", "–"]
    assert rows["er"] == ["+0.200", "–", "–", "1/1", *["–"] * 4]
    assert (
        "Caution: too few pairs for reliable tests and intervals (fewer than 5 seeds: er (1))"
        in text
    )
    assert (
        "–: the differences do not vary, or there are too few pairs (a t-test needs 2, d 3" in text
    )


def test_small_p_is_a_bound(tmp_path: Path) -> None:
    write_methods(
        tmp_path,
        {"ber": [0.1, 0.11, 0.1, 0.11], "drl": [0.8, 0.8, 0.81, 0.81]},
        baseline="ber",
    )
    assert cells_of(text_of(tmp_path), "method  difference")["drl"][-1] == "<0.001"


def write_many(directory: Path, n: int) -> None:
    lasts = [0.5, 0.6, 0.4, 0.7, 0.5]
    methods = {f"m{i}": [x + i / 200 + i / 1000 * (x > 0.5) for x in lasts] for i in range(n)}
    write_methods(directory, methods, baseline="m0")


def test_thirty_methods_with_their_tests_fit_a_screen(tmp_path: Path) -> None:
    write_many(tmp_path, 30)
    text = text_of(tmp_path)
    assert len(text.splitlines()) <= 42
    rows = cells_of(text, "method  ACC")
    assert rows["method"][:3] == ["ACC", "vs m0", "p"]
    assert rows["m29"][1] == "+0.078"
    assert "Holm-corrected for 29 tests" in " ".join(text.split())
    # What the columns leave out is in summary.csv.
    assert csv_of(tmp_path)[29]["ACC_difference_low"]


@pytest.mark.parametrize(("n", "tested"), [(10, ["ACC", "BWT"]), (16, ["ACC"]), (18, [])])
def test_fewer_methods_have_tables_of_tests(n: int, tested: list[str], tmp_path: Path) -> None:
    write_many(tmp_path, n)
    text = text_of(tmp_path)
    assert re.findall(r"^(\w+) against m0", text, re.MULTILINE) == tested
    assert ("vs m0" in text) == ("ACC" not in tested)
    assert len(text.splitlines()) <= 48


def test_fwt_has_a_column_where_methods_differ(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0])
    write_result(tmp_path, "a", 0, [[0.9, 0.1], [0.5, 0.9]])
    write_result(tmp_path, "b", 0, [[0.9, 0.4], [0.5, 0.9]])
    text = text_of(tmp_path)
    assert cells_of(text, "method    ACC")["method"][:3] == ["ACC", "BWT", "FWT"]
    assert cells_of(text, "method    ACC")["b"][2] == "+0.300"


def test_forgetting_has_a_column_where_it_is_not_bwt(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, [[0.5, 0, 0], [0.9, 0.5, 0], [0.6, 0.4, 0.5]], [0.0] * 3)
    row = cells_of(text_of(tmp_path), "method    ACC")
    assert dict(zip(row["method"], row["a"], strict=True)) == {
        "ACC": "0.500",
        "BWT": "+0.000",
        "FWT": "+0.000",
        "forgetting": "0.200",
        "AIA": "0.567",
        "seconds": "2.00",
    }


def test_memory_is_shown_where_runs_have_counted_it(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0])
    write_result(tmp_path, "a", 0, two_by_two(0.5), memory={"peak": 523_400_000, "kept": 1_234})
    write_result(tmp_path, "b", 0, two_by_two(0.5), memory={"peak": 71_000_000})
    rows = cells_of(text_of(tmp_path), "method    ACC")
    assert [rows[name][-2:] for name in ("method", "a", "b")] == [
        ["peak MB", "kept MB"],
        ["523", "0.00"],
        ["71.0", "–"],
    ]


def test_accuracies_of_validation_samples_are_called_so(tmp_path: Path) -> None:
    write_methods(tmp_path, {"a": [0.5]})
    assert "VALIDATION" not in text_of(tmp_path)
    record = tmp_path / "record.yaml"
    record.write_text(record.read_text("utf-8") + "split: validation\n", "utf-8")
    assert text_of(tmp_path).splitlines()[0].endswith("accuracies on held-out VALIDATION samples")
    assert csv_of(tmp_path)[0]["split"] == "validation"


@pytest.mark.parametrize(
    ("p", "text"),
    [(None, "–"), (0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0049, "0.005")],
)
def test_only_p_below_what_three_decimals_show_is_a_bound(p: float | None, text: str) -> None:
    assert p_value(p) == text


def test_tiny_negative_numbers_have_no_sign(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, [[0.9, 0.1], [0.8999, 0.9]])
    assert cells_of(text_of(tmp_path), "method    ACC")["a"][1] == "+0.000"


def test_what_failed_and_what_is_missing_is_reported(tmp_path: Path) -> None:
    write_experiment(tmp_path / "exp", ["ber", "drl", "er"], [0, 1, 2], baseline="ber")
    write_result(tmp_path / "exp", "ber", 0, two_by_two(0.5))
    write_result(tmp_path / "exp", "ber", 1, two_by_two(0.6))
    for seed in (0, 1):
        write_failure(tmp_path / "exp", "drl", seed, "loss became NaN at iteration 312")
    text = text_of(tmp_path / "exp")
    assert text.startswith("exp: 3 methods x 3 seeds, 2 of 9 runs finished\n")
    summary = cells_of(text, "method  runs")
    assert summary["ber"][:2] == ["2/3", "0.725 ± 0.035"]
    assert [*summary] == ["method", "ber"]
    assert "No finished runs: drl, er." in text
    assert "against ber" not in text, "no pair of runs"
    assert "2 runs failed:\n  drl, seeds 0, 1: loss became NaN at iteration 312\n" in text
    assert "5 runs missing" in text
    assert "  ber, drl: seed 2\n  er: seeds 0, 1, 2\n" in text


def test_results_that_the_record_does_not_name_are_listed(tmp_path: Path) -> None:
    write_experiment(tmp_path / "exp", ["ber", "drl"], [3])
    for method in ("ber", "drl", "old"):
        for seed in (0, 1, 3):
            write_result(tmp_path / "exp", method, seed, two_by_two(0.5))
    listed = (
        "Not in this report: 7 results that record.yaml does not name (run their methods and seeds "
        "to add them):\n  ber, drl: seeds 0, 1\n  old: seeds 0, 1, 3\n"
    )
    assert text_of(tmp_path / "exp").endswith(listed)
    write_experiment(tmp_path / "exp", ["ber", "drl", "old"], [0, 1, 3])
    assert "Not in this report" not in text_of(tmp_path / "exp")


def test_many_failures_are_counted(tmp_path: Path) -> None:
    methods = [f"m{i}" for i in range(13)]
    write_experiment(tmp_path, methods, [0])
    for method in methods:
        write_failure(tmp_path, method, 0, f"{method} is broken")
    text = text_of(tmp_path)
    assert "13 runs failed:\n  m0, seed 0: m0 is broken\n" in text
    assert text.endswith("m9 is broken\n  and 3 more (see failure.json in their folders)\n")


def test_nothing_finished_is_still_a_report(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber"], [0], baseline="ber")
    text = text_of(tmp_path)
    assert "0 of 1 runs finished" in text
    assert cells_of(text, "method  runs") == {"method": ["runs"], "ber": ["0/1"]}
    assert "ber: seed 0" in text


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
    start = text.index("Settings of the column's method")
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
    tables = text_of(tmp_path).split("Settings of the column's method")[1:]
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
    assert "Pareto-dominated" not in text_of(tmp_path)


def test_csv_has_every_number_at_full_precision(tmp_path: Path) -> None:
    lasts = {"ber": [0.5, 0.6, 0.4, 0.55, 0.71, 0.62], "drl": [0.7, 0.75, 0.8, 0.7, 0.72, 0.9]}
    write_methods(tmp_path, lasts, baseline="ber")
    results = read_results(tmp_path)
    statistics = method_statistics(results)
    rows = csv_of(tmp_path)
    for row, expected in zip(rows, statistics, strict=True):
        assert (row["experiment"], row["split"]) == (tmp_path.name, "test")
        assert row["method"] == expected.name
        assert (row["finished"], row["failed"], row["missing"]) == ("6", "0", "0")
        for name, value in expected.metrics.items():
            assert row[f"{name}_mean"] == ("" if value is None else repr(value.mean))
            assert row[f"{name}_std"] == ("" if value is None else repr(value.std))
        for phase, seconds in SECONDS.items():
            assert float(row[f"seconds_{phase}_mean"]) == seconds
    for metric, prefix in (("ACC", ""), ("BWT", "BWT_")):
        test = statistics[1].tests[metric]
        assert test.difference is not None
        assert test.interval is not None
        for name, number in {
            f"{metric}_difference_mean": test.difference.mean,
            f"{metric}_difference_std": test.difference.std,
            f"{metric}_difference_low": test.interval[0],
            f"{metric}_difference_high": test.interval[1],
            f"{prefix}effect": test.effect,
            f"{prefix}wins": test.wins,
            f"{prefix}p_t_test": test.t_test,
            f"{prefix}p_t_test_holm": test.t_test_holm,
            f"{prefix}p_wilcoxon": test.wilcoxon,
            f"{prefix}p_wilcoxon_holm": test.wilcoxon_holm,
        }.items():
            assert float(rows[1][name]) == number, name
        assert (rows[0][f"{prefix}pairs"], rows[1][f"{prefix}pairs"]) == ("", "6")


def test_csv_leaves_undefined_numbers_empty(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0], baseline="a")
    write_result(tmp_path, "a", 0, [[0.9]])
    write_failure(tmp_path, "b", 0, "out of memory")
    a, b = csv_of(tmp_path)
    assert (a["ACC_mean"], a["ACC_std"], a["BWT_mean"]) == ("0.9", "", "")
    assert (b["finished"], b["failed"], b["ACC_mean"], b["p_t_test"]) == ("0", "1", "", "")
    assert (b["pairs"], b["wins"], b["memory_peak_mean"]) == ("", "", "")


def test_the_best_is_sought_among_methods_with_the_same_seeds(tmp_path: Path) -> None:
    write_methods(tmp_path, {"a": [0.5, 0.6], "b": [0.6, 0.7], "lucky": [0.9]})
    experiment = (results := read_results(tmp_path)), method_statistics(results)
    sheet = sheet_of(experiment)
    (acc,) = (column for column in sheet.columns if column.title == "ACC")
    assert acc.best == {1}
    assert sheet.on_best.endswith("ran the same seeds; the others ran different ones.")


def test_a_method_that_is_a_run_ahead_is_not_the_best_alone(tmp_path: Path) -> None:
    write_methods(tmp_path, {"a": [0.5, 0.4, 0.3], "b": [0.6, 0.7], "c": [0.8, 0.7]})
    experiment = (results := read_results(tmp_path)), method_statistics(results)
    (acc,) = (column for column in sheet_of(experiment).columns if column.title == "ACC")
    assert acc.best == {2}


def test_with_seeds_that_all_differ_none_is_the_best(tmp_path: Path) -> None:
    write_methods(tmp_path, {"a": [0.5, 0.4, 0.3], "b": [0.6, 0.7]})
    experiment = (results := read_results(tmp_path)), method_statistics(results)
    sheet = sheet_of(experiment)
    assert not any(column.best for column in sheet.columns)
    assert not sheet.on_best


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ({"base": [], "a": [0.5], "b": [0.6]}, "the baseline base has no finished run."),
        ({"base": [0.4], "a": [None, 0.5]}, "no method has a seed in common with the baseline"),
    ],
)
def test_why_there_are_no_tests_is_said(
    tmp_path: Path, methods: dict[str, list[float | None]], reason: str
) -> None:
    write_experiment(tmp_path, [*methods], [0, 1], baseline="base")
    for method, lasts in methods.items():
        for seed, last in enumerate(lasts):
            if last is not None:
                write_result(tmp_path, method, seed, two_by_two(last))
    assert f"No tests: {reason}" in " ".join(text_of(tmp_path).split())


def test_many_methods_have_their_caution_beside_that_of_a_claim(tmp_path: Path) -> None:
    many = {f"m{i}": [0.5, 0.6 + i / 100] for i in range(30)}
    write_methods(tmp_path, many, baseline="m0", claims=[("m1", "m0")])
    text = " ".join(text_of(tmp_path).split())
    assert text.count("Caution: too few pairs") == 2
    assert "All test results: summary.csv" in text


def test_differences_that_never_vary_are_explained(tmp_path: Path) -> None:
    write_methods(tmp_path, {"a": [0.5, 0.75], "b": [0.25, 0.5]}, baseline="a")
    text = " ".join(text_of(tmp_path).split())
    assert "t-test p" not in text
    assert "–: the differences do not vary" in text


def test_intransigence_is_relative_to_a_column_that_is_shown(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0])
    write_result(tmp_path, "a", 0, [[0.75]])
    write_result(tmp_path, "b", 0, [[0.5]])
    text = " ".join(text_of(tmp_path).split())
    assert "equals 0.750 - ACC." in text
    assert " learned " not in text


def test_fwt_of_other_seeds_is_no_difference_between_methods(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0, 1])
    for method, seed, ahead in (("a", 0, 0.2), ("a", 1, 0.4), ("b", 0, 0.2)):
        write_result(tmp_path, method, seed, [[0.9, ahead], [0.5, 0.9]])
    text = text_of(tmp_path)
    assert "FWT is +0.200 ± 0.141 for all methods with the same seed." in " ".join(text.split())
    assert "FWT" not in cells_of(text, "method  runs")["method"]
    write_result(tmp_path, "b", 0, [[0.9, 0.3], [0.5, 0.9]])
    assert "FWT" in cells_of(text_of(tmp_path), "method  runs")["method"]


def test_a_caution_counts_many_methods(tmp_path: Path) -> None:
    few = {f"m{i}": [0.5, 0.6 + i / 100] for i in range(5)}
    write_methods(
        tmp_path,
        {"base": [0.5, 0.6, 0.4, 0.3, 0.2], **few, "full": [0.1 * i for i in range(5)]},
        baseline="base",
    )
    assert "fewer than 5 seeds: 5 of 6 methods" in text_of(tmp_path)


def test_metrics_inside_experiences_are_defined_below_the_table(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    numbers = {"AAA": 0.7, "WC_ACC": 0.6, "min_ACC": 0.5, "stability_gap": 0.1, "LCA": 0.4}
    write_result(tmp_path, "a", 0, two_by_two(0.5), metrics=numbers)
    text = " ".join(text_of(tmp_path).split())
    assert all(f" {name}: " in text for name in numbers)
