"""The picture of learning against forgetting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avalanche_ext.report.labels import place_labels
from avalanche_ext.report.layout import plus_minus
from avalanche_ext.report.statistics import MethodStatistics
from avalanche_ext.report.style import heading, looks, tidy
from avalanche_ext.report.sweep import value_text
from avalanche_ext.report.tradeoff import (
    Point,
    beyond,
    pareto_front,
    swept_parameters,
    tradeoff_points,
)
from avalanche_ext.results.experiment import ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_HOLLOW = "white"
_CONTEXT: dict[str, Any] = {"color": "lightgrey", "linewidth": 1.2, "zorder": 0}
_MOST_TOGETHER = 2
"""Maximum number of swept methods whose curves are distinguishable in one panel."""
_PANELS_A_ROW = 3


def tradeoff_figure(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Figure | None:
    """Draw BWT against learning accuracy, with a curve through the settings of each swept method.

    Points are means over seeds, with bars of ± the standard error. Points on the Pareto front are
    filled; settings are compared only with those of the same parameter. Points of settings show
    their value if there is room. Methods that are not swept are single points. With more than two
    swept methods, each has its own panel with the same limits and the others' curves in grey. Far
    outliers are named below the frame instead of being drawn in it.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.

    Returns:
        A figure without a window; None if BWT is undefined for all methods, as with one experience.
    """
    from matplotlib.figure import Figure

    points = tradeoff_points(statistics)
    if not points:
        return None
    groups = {
        name: drawn
        for name, settings in results.groups.items()
        if (drawn := [method.name for method in settings if method.name in points])
    }
    swept = [name for name in groups if name in results.sweeps]
    alone = [name for name in groups if name not in results.sweeps]
    panels = [[*groups]] if len(swept) <= _MOST_TOGETHER else [[name, *alone] for name in swept]
    columns = min(len(panels), _PANELS_A_ROW)
    rows = math.ceil(len(panels) / columns)
    size = (7.2, 4.8) if len(panels) == 1 else (2.4 + 3.4 * columns, 1.3 + 3.0 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in grid.flat[len(panels) :]:
        unused.remove()
    for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
        axes.tick_params(labelbottom=True)  # Panels with no panel below them.
    title = heading(results, "standard error")
    if len(panels) == 1:
        grid[0, 0].set_title(title)
    else:
        figure.suptitle(title)
        for axes, names in zip(grid.flat, panels, strict=False):
            axes.set_title(names[0], fontsize=10, color=looks(results)[names[0]]["color"])
    labels = [
        draw_tradeoff(axes, results, points, {name: groups[name] for name in names})
        for axes, names in zip(grid.flat, panels, strict=False)
    ]
    outside = beyond(points, swept_parameters(results))
    below = "learning accuracy (right after each experience)"
    if outside:
        _frame(grid[0, 0], [point for name, point in points.items() if name not in outside])
        hidden = {
            name: points[name] for name in points if not _is_in_frame(grid[0, 0], points[name])
        }
        if hidden:
            listed = _listed(hidden, columns + 1)
            below = f"{below}\n\noutside the plot (learning accuracy, BWT):\n{listed}"
    if len(panels) == 1:
        grid[0, 0].set_xlabel(below)
        grid[0, 0].set_ylabel("backward transfer (BWT)")
    else:
        figure.supxlabel(below, fontsize=10)
        figure.supylabel("backward transfer (BWT)", fontsize=10)
    shown = [*groups] if len(panels) == 1 else alone
    parameters = dict.fromkeys(results.sweeps[name].parameter for name in swept)
    figure.legend(
        handles=_entries(results, shown, len(parameters) > 1, len(panels) > 1),
        title=f"labels: {', '.join(parameters)}",
        loc="outside right upper",
        frameon=False,
    )
    for axes, each in zip(grid.flat, labels, strict=False):
        place_labels(figure, axes, each)
    if len(panels) > 1:  # After the labels, so that these may lie on the grey curves.
        for axes, names in zip(grid.flat, panels, strict=False):
            for other in swept:
                if other != names[0]:
                    x, y = zip(*(points[each].means for each in groups[other]), strict=True)
                    axes.plot(x, y, scalex=False, scaley=False, **_CONTEXT)
    return figure


def draw_tradeoff(
    axes: Axes,
    results: ExperimentResults,
    points: Mapping[str, Point],
    groups: Mapping[str, Sequence[str]],
) -> list[tuple[tuple[float, float], str, str]]:
    """Draw the points of some methods, and a curve through the settings of each swept one.

    Args:
        axes: The matplotlib axes to draw on.
        results: The experiment.
        points: `tradeoff_points` of all its settings, which determine the front.
        groups: The names of the settings to draw, by method; each is in `points`.

    Returns:
        The labels for `place_labels`: the points of swept methods with their values.
    """
    front = pareto_front(points, swept_parameters(results))
    labels = []
    look = looks(results)
    for name, drawn in groups.items():
        _draw_curve(axes, {each: points[each] for each in drawn}, front, look[name])
        sweep = results.sweeps.get(name)
        if sweep:
            colour = look[name]["color"]
            labels += [
                (points[each].means, value_text(sweep.values[each]), colour) for each in drawn
            ]
    axes.margins(0.08)
    axes.locator_params(axis="x", nbins=7)
    tidy(axes)
    return labels


def _entries(
    results: ExperimentResults, names: Sequence[str], several_parameters: bool, panels: bool
) -> list[Line2D]:
    """Return the legend: the methods `names`, and the meaning of filled, hollow and grey."""
    from matplotlib.lines import Line2D

    look = looks(results)
    entries = [
        Line2D([], [], label=name, ls="-" if name in results.sweeps else "", **look[name])
        for name in names
    ]
    marker: dict[str, Any] = {"ls": "", "marker": "o", "markersize": 5, "color": "grey"}
    of_each = "\nof its parameter" if several_parameters else ""
    entries.append(Line2D([], [], label=f"on the Pareto front{of_each}", **marker))
    entries.append(Line2D([], [], label="dominated", markerfacecolor=_HOLLOW, **marker))
    if panels:
        entries.append(Line2D([], [], label="other methods", **_CONTEXT))
    return entries


def _draw_curve(
    axes: Axes, points: Mapping[str, Point], front: set[str], look: Mapping[str, Any]
) -> None:
    from avalanche_ext.report.series import Series

    colour = look["color"]
    x, y = zip(*(point.means for point in points.values()), strict=True)
    axes.plot(x, y, color=colour, linewidth=1.2)
    axes.errorbar(
        x,
        y,
        xerr=[point.learning_accuracy.standard_error or 0.0 for point in points.values()],
        yerr=[point.bwt.standard_error or 0.0 for point in points.values()],
        fmt="none",
        ecolor=colour,
        elinewidth=0.9,
        alpha=0.7,
    )
    for name, point in points.items():
        face = colour if name in front else _HOLLOW
        learned, forgot = plus_minus(point.learning_accuracy), plus_minus(point.bwt, signed=True)
        text = f"{name}: learning accuracy {learned}, BWT {forgot}"
        style = {"ls": "", "markerfacecolor": face, "zorder": 3, **look}
        axes.add_line(Series([point.means[0]], [point.means[1]], [text], **style))


def _frame(axes: Axes, points: Sequence[Point]) -> None:
    """Set the limits to show these points with their bars, with some space around them."""
    for estimates, set_limits in (
        ([point.learning_accuracy for point in points], axes.set_xlim),
        ([point.bwt for point in points], axes.set_ylim),
    ):
        low = min(each.mean - (each.standard_error or 0.0) for each in estimates)
        high = max(each.mean + (each.standard_error or 0.0) for each in estimates)
        space = 0.08 * (high - low) or 0.01
        set_limits(low - space, high + space)


def _is_in_frame(axes: Axes, point: Point) -> bool:
    limits = (axes.get_xlim(), axes.get_ylim())
    return all(low <= mean <= high for mean, (low, high) in zip(point.means, limits, strict=True))


def _listed(points: Mapping[str, Point], a_line: int = 2) -> str:
    texts = ["{} ({:.2f}, {:.2f})".format(name, *point.means) for name, point in points.items()]
    lines = [", ".join(texts[i : i + a_line]) for i in range(0, len(texts), a_line)]
    return ",\n".join(lines)
