"""Runs trained on all experiences in random order: what the report says of them, and what not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from avalanche_ext.report import write_report
from avalanche_ext.report.formats import report_on
from avalanche_ext.report.matrices import matrices_figure
from avalanche_ext.report.statistics import METRICS, Estimate, method_statistics
from avalanche_ext.report.streams import accuracy_figure
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_result

# A matrix that would win every comparison of what was learned when.
IID = [[1.0, 0.1], [0.8, 1.0]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`er` trained in sequence, `iid` in random order; two runs each."""
    write_experiment(tmp_path, ["er", "iid"], [0, 1], baseline="er")
    for seed in (0, 1):
        write_result(tmp_path, "er", seed, two_by_two(0.5 + seed / 10), iid=False)
        write_result(tmp_path, "iid", seed, IID, iid=True, test_sizes=[100, 300])
    return tmp_path


def metrics_of(directory: Path) -> dict[str, dict[str, Estimate | None]]:
    found = method_statistics(read_results(directory))
    return {each.name: dict(each.metrics) for each in found}


def test_only_accuracies_in_the_end_are_defined(directory: Path) -> None:
    metrics = metrics_of(directory)["iid"]
    assert metrics.pop("ACC") == Estimate(pytest.approx(0.9), 0.0, 2)
    assert metrics.pop("instance_accuracy") == Estimate(pytest.approx(0.95), 0.0, 2)
    assert metrics == dict.fromkeys(set(METRICS) - {"ACC", "instance_accuracy"})


def test_they_do_not_count_for_the_intransigence_of_others(directory: Path) -> None:
    assert metrics_of(directory)["er"]["intransigence"] == Estimate(pytest.approx(0.0), 0.0, 2)
    for seed in (0, 1):
        write_result(directory, "iid", seed, IID, iid=False)
    assert metrics_of(directory)["er"]["intransigence"] == Estimate(pytest.approx(0.1), 0.0, 2)


def test_acc_is_compared_and_bwt_is_not(directory: Path) -> None:
    _, iid = method_statistics(read_results(directory))
    assert iid.tests["ACC"].difference is not None
    assert iid.tests["ACC"].difference.mean == pytest.approx(0.9 - 0.725)
    assert iid.tests["BWT"].difference is None


def lines_of(figure: Figure) -> dict[str, Any]:
    """The lines over experiences."""
    return {str(line.get_label()): line for line in figure.axes[0].get_lines()}


def test_the_final_accuracy_is_a_short_dashed_line_at_the_right_end(directory: Path) -> None:
    figure = accuracy_figure(read_results(directory))
    lines = lines_of(figure)
    np.testing.assert_allclose(lines["er"].get_xdata(), [1, 2])
    x, y = lines["iid"].get_data()
    assert 1.5 < x[0] < x[1] == 2
    np.testing.assert_allclose(y, 0.9)
    assert (lines["er"].get_linestyle(), lines["iid"].get_linestyle()) == ("-", "--")
    assert "dashed" in figure.axes[0].get_xlabel()
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["er", "iid"]


def test_without_such_runs_no_line_is_dashed(directory: Path) -> None:
    for seed in (0, 1):
        write_result(directory, "iid", seed, IID)
    figure = accuracy_figure(read_results(directory))
    assert {line.get_linestyle() for line in lines_of(figure).values()} == {"-"}
    assert figure.axes[0].get_xlabel() == "experiences learned"


def test_matrices_are_those_of_the_others(directory: Path) -> None:
    figure = matrices_figure(read_results(directory))
    assert figure is not None
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["er, mean of 2 runs"]


def test_a_report_of_nothing_else_has_no_matrices(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["iid"], [0])
    write_result(tmp_path, "iid", 0, IID, iid=True)
    assert "summary.csv, accuracy.png are in" in write_report(tmp_path)


def test_the_report_says_why_numbers_are_missing(directory: Path) -> None:
    note = "Methods trained iid (on all experiences at once, shuffled)"
    assert note in " ".join(write_report(directory).split())
    for seed in (0, 1):
        write_result(directory, "iid", seed, IID)
    assert note not in " ".join(write_report(directory).split())


def test_the_note_on_bold_numbers_says_that_they_are_left_out(directory: Path) -> None:
    write_experiment(directory, ["er", "ber", "iid"], [0, 1])
    for seed in (0, 1):
        write_result(directory, "ber", seed, two_by_two(0.4))
    for form in ("markdown", "latex"):
        text = " ".join(report_on([directory], form).split())
        assert "Bold: best. Methods trained iid are never bold." in text
    for seed in (0, 1):
        write_result(directory, "iid", seed, IID)
    text = " ".join(report_on([directory], "markdown").split())
    assert text.endswith("Bold: best.")


def test_results_from_before_runs_said_so_are_read(directory: Path) -> None:
    path = directory / "iid" / "seed-0" / "result.json"
    content = json.loads(path.read_text("utf-8"))
    del content["iid"]
    path.write_text(json.dumps(content), "utf-8")
    assert "iid" in write_report(directory)
