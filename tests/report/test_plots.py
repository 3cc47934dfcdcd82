"""Plots for notebooks: on axes of the caller's, with what the report's figures draw."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

from avalanche_ext import report, results
from avalanche_ext.metrics.curves import AccuracyCurves
from avalanche_ext.report.inside import inside_figure
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.results.experiment import read_exhibits, read_results
from avalanche_ext.results.record import ResultsError
from tests.results.trees import HASH, write_experiment, write_result

R = [[[0.9, 0.1], [0.5, 0.8]], [[0.7, 0.1], [0.3, 0.6]]]
NAN = math.nan


@pytest.fixture(autouse=True)
def no_windows() -> None:
    matplotlib.use("agg")


def curves(shift: float) -> AccuracyCurves:
    accuracy = [[0.1, NAN], [0.6, NAN], [0.9, NAN], [NAN, 0.1], [0.2, 0.6], [0.5, 0.8]]
    return AccuracyCurves(
        2,
        np.array([0, 0, 0, 1, 1, 1]),
        np.array([0, 2, 3, 0, 2, 3]),
        np.array(accuracy) - shift,
    )


@pytest.fixture
def loaded(tmp_path: Path) -> results.Results:
    """Methods a and b with two seeds each; a was evaluated inside experiences."""
    write_experiment(tmp_path / "one", ["a", "b"], [0, 1])
    for seed in (0, 1):
        path = write_result(tmp_path / "one", "a", seed, R[seed])
        arrays = ContinualEvaluation.of(curves(0.1 * seed)).to_arrays()
        np.savez(path.parent / "continual_evaluation.npz", hash=np.array(HASH), **arrays)
        write_result(tmp_path / "one", "b", seed, R[1 - seed])
    return results.load(tmp_path / "one")


def lines(axes: Axes) -> dict[str, np.ndarray]:
    return {
        str(line.get_label()): line.get_xydata()
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }


def test_accuracy_and_learning_are_lines_with_a_legend(loaded: results.Results) -> None:
    _, (left, right) = pyplot.subplots(1, 2)
    assert report.plot_accuracy(loaded, ax=left) is left
    assert report.plot_learning(loaded, ax=right) is right
    np.testing.assert_allclose(lines(left)["a"], [[1, 0.8], [2, 0.55]])
    np.testing.assert_allclose(lines(right)["b"], [[1, 0.8], [2, 0.7]])
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]


def test_a_matrix_is_of_a_run_or_the_mean_of_all(loaded: results.Results) -> None:
    axes = report.plot_matrix(loaded, "a", 1)
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array(), R[1])
    assert axes.get_title() == "a, seed 1"
    (image,) = report.plot_matrix(loaded, "a").get_images()
    np.testing.assert_allclose(image.get_array(), np.mean(R, axis=0))


def test_the_tradeoff_names_its_points(loaded: results.Results) -> None:
    axes = report.plot_tradeoff(loaded)
    assert {text.get_text() for text in axes.texts} >= {"a"}
    assert axes.get_xlabel().startswith("learning accuracy")


def test_plots_say_that_the_setting_they_draw_was_chosen_on_the_same_results(
    tmp_path: Path,
) -> None:
    sweep = {"a": ("plugins[0].drl.lam", {"a-1": 1, "a-2": 2})}
    write_experiment(tmp_path / "swept", ["a-1", "a-2", "b"], [0], sweeps=sweep)
    for name in ("a-1", "a-2", "b"):
        write_result(tmp_path / "swept", name, 0, R[0])
    swept = results.load(tmp_path / "swept")
    for plot in (report.plot_accuracy, report.plot_learning):
        title = " ".join(plot(swept).get_title().split())
        assert (
            title
            == "For a, only the setting with the highest mean ACC on these same results is shown"
        )


def test_plots_say_what_is_measured_on_validation_samples(tmp_path: Path) -> None:
    write_experiment(tmp_path / "held", ["a"], [0])
    with (tmp_path / "held" / "record.yaml").open("a", encoding="utf-8") as record:
        record.write("split: validation\n")
    write_result(tmp_path / "held", "a", 0, R[0])
    held = results.load(tmp_path / "held")
    assert report.plot_matrix(held, "a").get_title() == "a (VALIDATION)"
    assert report.plot_tradeoff(held).get_xlabel().endswith("(VALIDATION)")
    for plot in (report.plot_accuracy, report.plot_learning):
        assert plot(held).get_ylabel().endswith("(VALIDATION)")


def test_a_metric_is_a_row_a_method(loaded: results.Results) -> None:
    axes = report.plot_metric(loaded, "BWT")
    assert {tick.get_text() for tick in axes.get_yticklabels()} == {"a", "b"}
    with pytest.raises(ResultsError, match=r"there is no metric 'bwt' \(known: ACC,"):
        report.plot_metric(loaded, "bwt")
    with pytest.raises(ResultsError, match="one: 'AAA' is undefined for all finished runs"):
        report.plot_metric(loaded, "AAA")


def test_accuracy_inside_experiences_runs_over_all_mini_batches(loaded: results.Results) -> None:
    axes = report.plot_inside(loaded)
    means = [(0.6 + 0.5) / 2, (0.9 + 0.8) / 2, (0.4 + 0.3) / 2, (0.65 + 0.55) / 2]
    np.testing.assert_allclose(lines(axes)["a"], np.transpose([[2, 3, 5, 6], means]))
    first = report.plot_inside(loaded, experience=1)
    np.testing.assert_allclose(lines(first)["a"][:, 1], [0.55, 0.85, 0.15, 0.45])
    second = report.plot_inside(loaded, experience=2)
    np.testing.assert_allclose(lines(second)["a"], [[5, 0.55], [6, 0.75]])
    (line,) = [each for each in first.get_lines() if each.get_label() == "a"]
    assert line.get_markevery() == [1, 3]
    ends = [each for each in first.get_lines() if each.get_linestyle() == ":"]
    assert [each.get_xdata()[0] for each in ends] == [3]
    # From the end of the first experience on: 0.85, 0.35 and 0.6, of the first 0.85, 0.15 and 0.45.
    assert 0.3 < axes.get_ylim()[0] < 0.35 < 0.85 < axes.get_ylim()[1] < 0.9
    assert 0.05 < first.get_ylim()[0] < 0.15 < 0.85 < first.get_ylim()[1] < 0.95


@pytest.mark.parametrize("experience", [0, 3, -1])
def test_experiences_count_from_1(loaded: results.Results, experience: int) -> None:
    with pytest.raises(ResultsError, match=f"experience is {experience}, but must be from 1 to 2"):
        report.plot_inside(loaded, experience=experience)


def test_the_report_has_the_picture_only_where_it_was_measured(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0])
    write_result(tmp_path, "a", 0, R[0])
    found = read_results(tmp_path)
    assert inside_figure(found, read_exhibits(found, ContinualEvaluation)) is None
    with pytest.raises(ResultsError, match="no run was evaluated inside experiences"):
        report.plot_inside(results.load(tmp_path))
    arrays = ContinualEvaluation.of(curves(0.0)).to_arrays()
    np.savez(tmp_path / "a" / "seed-0" / "continual_evaluation.npz", hash=np.array(HASH), **arrays)
    report.write_report(tmp_path)
    assert (tmp_path / "inside.png").is_file()


def test_nothing_can_be_plotted_before_a_run_has_finished(tmp_path: Path) -> None:
    write_experiment(tmp_path / "new", ["a"], [0])
    with pytest.raises(ResultsError, match="new: no run has finished yet"):
        report.plot_accuracy(results.load(tmp_path / "new"))
