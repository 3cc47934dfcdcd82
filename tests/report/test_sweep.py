"""The pictures of sweeps: what is drawn can be read back from the axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color

from avalanche_ext.report.differences import differences_figure
from avalanche_ext.report.page.tables import methods_table
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.streams import accuracy_figure
from avalanche_ext.report.style import COLOURS
from avalanche_ext.results.experiment import read_results
from tests.report.pictures import legend_of, sweep_of, tradeoff_of
from tests.results.trees import two_by_two, write_experiment, write_points, write_result

SWEEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "gem": ("memory_strength", {"gem-2": 2, "gem-0": 0, "gem-0.5": 0.5}),
    "drl": ("memory_strength", {"drl-0.5": 0.5, "drl-1": 1}),
}
POINTS = {
    "naive": (0.95, -0.4),
    "gem-2": (0.6, -0.1),
    "gem-0": (0.9, -0.3),
    "gem-0.5": (0.8, -0.2),
    "drl-0.5": (0.8, -0.15),
    "drl-1": (0.55, -0.12),
}
FRONT = {"naive", "gem-2", "gem-0", "drl-0.5"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`gem` and `drl` swept over one parameter, `naive` not; two runs each."""
    write_points(tmp_path, POINTS, SWEEPS)
    return tmp_path


def test_curves_go_through_the_settings_in_the_order_of_the_values(directory: Path) -> None:
    (axes,) = tradeoff_of(directory).axes
    curves = [line.get_xydata() for line in axes.get_lines() if line.get_marker() == "None"]
    expected = [["naive"], [*SWEEPS["gem"][1]], [*SWEEPS["drl"][1]]]
    assert len(curves) == len(expected)
    for curve, names in zip(curves, expected, strict=True):
        np.testing.assert_allclose(curve, [POINTS[name] for name in names])


def test_only_points_that_none_betters_are_filled(directory: Path) -> None:
    (axes,) = tradeoff_of(directory).axes
    markers = [line for line in axes.get_lines() if line.get_marker() != "None"]
    found = {
        tuple(np.round(line.get_xydata()[0], 9)): same_color(
            line.get_markerfacecolor(), line.get_color()
        )
        for line in markers
    }
    assert found == {point: name in FRONT for name, point in POINTS.items()}


def test_bars_are_standard_errors_on_both_axes(directory: Path) -> None:
    (axes,) = tradeoff_of(directory).axes
    bars = [segment for bar in axes.collections for segment in bar.get_segments()]
    lengths = {tuple(np.round(np.ptp(bar, axis=0), 9)) for bar in bars}
    # Learning accuracy is the same in both runs. BWT is 0.01 off its mean in each, so its standard
    # deviation is 0.01 * sqrt(2) and its standard error 0.01, to both sides.
    assert lengths == {(0.0, 0.0), (0.0, 0.02)}


def test_points_carry_their_values(directory: Path) -> None:
    (axes,) = tradeoff_of(directory).axes
    labels = {tuple(np.round(label.xy, 9)): label.get_text() for label in axes.texts}
    assert labels == {
        POINTS[name]: str(value) for _, values in SWEEPS.values() for name, value in values.items()
    }


def test_both_pictures_name_each_swept_method_once(directory: Path) -> None:
    assert legend_of(tradeoff_of(directory)) == [
        *("naive", "gem", "drl"),
        *("on the Pareto front", "dominated"),
    ]
    assert {*legend_of(sweep_of(directory))} == {"naive", "gem", "drl"}


def test_the_page_and_the_picture_of_differences_have_the_colours_of_the_others(
    directory: Path,
) -> None:
    record = directory / "record.yaml"
    record.write_text(record.read_text("utf-8").replace("baseline: null", "baseline: naive"))
    results = read_results(directory)
    statistics = method_statistics(results)
    own = {"gem-2": 1, "gem-0": 1, "gem-0.5": 1, "drl-0.5": 2, "drl-1": 2}
    assert dict(zip(POINTS, methods_table((results, statistics)).colours, strict=True)) == {
        "naive": 0,
        **own,
    }
    figure = differences_figure(results, statistics)
    assert figure is not None
    labels = figure.axes[0].get_yticklabels()
    assert {label.get_text(): label.get_color() for label in labels} == {
        name: COLOURS[place] for name, place in own.items()
    }


def test_a_method_looks_the_same_in_all_pictures(directory: Path) -> None:
    accuracy, _ = accuracy_figure(read_results(directory)).axes
    colours = {str(line.get_label()): line.get_color() for line in accuracy.get_lines()}
    assert [*colours] == ["naive", "gem-0", "drl-0.5"]
    assert [*colours.values()] == [*COLOURS[:3]]
    (swept,) = sweep_of(directory).axes
    assert [line.get_color() for line in swept.get_lines()] == [*colours.values()]
    handles = tradeoff_of(directory).legends[0].legend_handles
    assert [line.get_color() for line in handles[:3] if line] == [*colours.values()]


def test_one_run_each_claims_no_spread(tmp_path: Path) -> None:
    write_points(tmp_path, POINTS, SWEEPS, shifts=[0.0])
    assert "±" not in tradeoff_of(tmp_path).axes[0].get_title()
    figure = sweep_of(tmp_path)
    assert "±" not in figure.get_suptitle()
    assert not figure.axes[0].collections


def accuracy(name: str) -> float:
    """ACC, the mean of the last row: of what was learned, and of that with what was forgotten."""
    learned, bwt = POINTS[name]
    return learned + bwt / 2


def test_accuracies_are_drawn_over_their_values_in_ascending_order(directory: Path) -> None:
    (axes,) = sweep_of(directory).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.5", "1", "2"]
    assert axes.get_xlabel().startswith("memory_strength")
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    gem, drl = (lines[name].get_xydata() for name in ("gem", "drl"))
    np.testing.assert_allclose(
        gem, [[0, accuracy("gem-0")], [1, accuracy("gem-0.5")], [3, accuracy("gem-2")]]
    )
    np.testing.assert_allclose(drl, [[1, accuracy("drl-0.5")], [2, accuracy("drl-1")]])


def test_methods_that_are_not_swept_are_dashed_lines(directory: Path) -> None:
    (axes,) = sweep_of(directory).axes
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [line.get_label() for line in dashed] == ["naive"]
    np.testing.assert_allclose(dashed[0].get_ydata(), accuracy("naive"))


def test_bands_are_one_standard_deviation_wide(directory: Path) -> None:
    (axes,) = sweep_of(directory).axes
    band = axes.collections[0].get_paths()[0].vertices
    at_the_end = [y for x, y in band if x == 3]
    std = 0.005 * 2**0.5  # ACC is half of 0.01 off its mean in each of two runs.
    assert min(at_the_end) == pytest.approx(accuracy("gem-2") - std)
    assert max(at_the_end) == pytest.approx(accuracy("gem-2") + std)


def test_settings_without_runs_are_left_out(tmp_path: Path) -> None:
    names = ["gem-0", "gem-0.5", "gem-2", "ewc-1", "drl-0"]
    sweeps = {
        "gem": ("lam", {"gem-0": 0, "gem-0.5": 0.5, "gem-2": 2}),
        "ewc": ("lr", {"ewc-1": 1}),
        "drl": ("lam", {"drl-0": 0}),
    }
    write_experiment(tmp_path, names, [0], sweeps=sweeps)
    for name in ("gem-0", "gem-2"):
        write_result(tmp_path, name, 0, two_by_two(0.5))
    (axes,) = sweep_of(tmp_path).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "0.5", "2"]
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [0, 2])
    legend = tradeoff_of(tmp_path).legends[0]
    assert legend.get_title().get_text() == "labels: lam"
    assert legend.get_texts()[0].get_text() == "gem"


def test_each_parameter_has_its_panel(tmp_path: Path) -> None:
    sweeps = {
        "a": ("lr", {"a-0.01": 0.01, "a-0.2": 0.2}),
        "b": ("lam", {"b-1": 1, "b-1e-05": 1e-5}),
        "c": ("lr", {"c-0.05": 0.05}),
    }
    names = ["a-0.01", "a-0.2", "b-1", "b-1e-05", "c-0.05", "naive"]
    write_points(tmp_path, dict.fromkeys(names, (0.9, -0.2)), sweeps)
    lr, lam = sweep_of(tmp_path).axes
    assert [tick.get_text() for tick in lr.get_xticklabels()] == ["0.01", "0.05", "0.2"]
    assert [tick.get_text() for tick in lam.get_xticklabels()] == ["1e-05", "1"]
    drawn = [[line.get_label() for line in axes.get_lines()] for axes in (lr, lam)]
    assert drawn == [["a", "c", "naive"], ["b", "naive"]]


@pytest.mark.parametrize(("n_parameters", "shape"), [(3, (1, 3)), (4, (2, 3)), (7, (3, 3))])
def test_panels_are_three_in_a_row(
    n_parameters: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    names = [f"m-{k}" for k in range(n_parameters)]
    sweeps = {f"m{k}": (f"parameter_{k}", {name: k}) for k, name in enumerate(names)}
    write_points(tmp_path, dict.fromkeys(names, (0.9, -0.2)), sweeps)
    figure = sweep_of(tmp_path)
    figure.draw_without_rendering()
    assert len(figure.axes) == n_parameters
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one is not None
            assert other is not None
            assert not one.padded(-1).overlaps(other)
    places = [axes.get_position() for axes in figure.axes]
    assert (
        len({round(each.y0, 3) for each in places}),
        len({round(each.x0, 3) for each in places}),
    ) == shape
    assert sum(bool(axes.get_ylabel()) for axes in figure.axes) == shape[0]


def test_values_that_are_no_numbers_keep_their_order(tmp_path: Path) -> None:
    sweeps = {"a": ("optimizer", {"a-SGD": "SGD", "a-Adam": "Adam"})}
    write_points(tmp_path, dict.fromkeys(["a-SGD", "a-Adam"], (0.9, -0.2)), sweeps)
    (axes,) = sweep_of(tmp_path).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["SGD", "Adam"]
