"""tradeoff.png where points are many, far off, or settings of several parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import same_color

from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.tradeoff_picture import tradeoff_figure
from avalanche_ext.results.experiment import read_results
from tests.report.pictures import legend_of, tradeoff_of
from tests.results.trees import write_experiment, write_points, write_result


def test_labels_that_could_not_be_read_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"m-{k}" for k in range(150)]
    # Many points in the middle of the picture, which two far ones make wide.
    places = [(0.67, -0.26), (0.84, -0.14), *rng.normal([0.75, -0.2], [0.02, 0.015], (148, 2))]
    points = {
        name: (round(float(x), 3), round(float(y), 3))
        for name, (x, y) in zip(names, places, strict=True)
    }
    sweep = {"m": ("lam", {name: k for k, name in enumerate(names)})}
    write_points(tmp_path, points, sweep, shifts=[0.0])
    figure = tradeoff_of(tmp_path)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.texts]
    assert {"0", "1"} <= {label.get_text() for label in axes.texts}
    assert len(boxes) < 100
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    centres = axes.transData.transform([*points.values()])
    assert not any(box.contains(*centre) for box in boxes for centre in centres)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


def test_one_experience_has_no_tradeoff(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["gem-2"], [0], sweeps={"gem": ("lam", {"gem-2": 2})})
    write_result(tmp_path, "gem-2", 0, [[0.9]])
    results = read_results(tmp_path)
    assert tradeoff_figure(results, method_statistics(results)) is None


def test_settings_are_filled_that_none_of_their_parameter_betters(tmp_path: Path) -> None:
    sweeps = {"a": ("lr", {"a-1": 1, "a-2": 2}), "b": ("lam", {"b-1": 1, "b-2": 2})}
    points = {"a-1": (0.9, -0.1), "a-2": (0.8, -0.2), "b-1": (0.7, -0.3), "b-2": (0.6, -0.4)}
    write_points(tmp_path, points, sweeps)
    figure = tradeoff_of(tmp_path)
    (axes,) = figure.axes
    filled = {
        tuple(np.round(line.get_xydata()[0], 9))
        for line in axes.get_lines()
        if line.get_marker() != "None" and same_color(line.get_markerfacecolor(), line.get_color())
    }
    assert filled == {points["a-1"], points["b-1"]}
    assert legend_of(figure)[2:] == ["on the Pareto front\nof its parameter", "dominated"]


def test_far_outliers_are_named_below_a_frame_of_the_others(tmp_path: Path) -> None:
    near = {f"m-{k}": (0.80 + 0.002 * k, 0.02 - 0.004 * k) for k in range(8)}
    points = {**near, "m-8": (0.45, -0.35)}
    sweep = {"m": ("lam", {name: k for k, name in enumerate(points)})}
    write_points(tmp_path, points, sweep)
    (axes,) = tradeoff_of(tmp_path).axes
    assert axes.get_xlim()[0] > 0.79
    assert axes.get_ylim()[0] > -0.03
    assert axes.get_xlabel().endswith("m-8 (0.45, -0.35)")
    for x, y in near.values():
        assert axes.get_xlim()[0] < x < axes.get_xlim()[1]
        assert axes.get_ylim()[0] < y < axes.get_ylim()[1]


def test_more_than_two_swept_methods_have_a_panel_each_in_the_same_axes(tmp_path: Path) -> None:
    names = ("gem", "mgem", "agem", "ogem")
    sweeps = {name: ("lam", {f"{name}-{k}": k for k in range(6)}) for name in names}
    points = {
        f"{name}-{k}": (0.7 + 0.01 * k, -0.1 + 0.01 * k * shift)
        for shift, name in enumerate(sweeps)
        for k in range(6)
    }
    write_points(tmp_path, {"naive": (0.6, -0.2), **points}, sweeps)
    figure = tradeoff_of(tmp_path)
    assert [axes.get_title() for axes in figure.axes] == [*sweeps]
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    for axes, name in zip(figure.axes, sweeps, strict=True):
        own = [line for line in axes.get_lines() if line.get_zorder() == 3]
        found = {tuple(np.round(line.get_xydata()[0], 9)) for line in own}
        wanted = {points[setting] for setting in sweeps[name][1]} | {(0.6, -0.2)}
        assert found == {tuple(np.round(point, 9)) for point in wanted}
        labels = [label.get_text() for label in axes.texts]
        assert labels == sorted(labels)
        assert len(labels) >= 4
        context = [line for line in axes.get_lines() if line.get_color() == "lightgrey"]
        assert [len(line.get_xdata()) for line in context] == [6, 6, 6]
    # The first has a panel below it.
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes] == [
        *(False, True, True, True)
    ]
    assert legend_of(figure) == ["naive", "on the Pareto front", "dominated", "other methods"]
