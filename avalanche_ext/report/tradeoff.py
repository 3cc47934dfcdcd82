"""Learning against forgetting: the Pareto front, domination, and the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.report.figures import heading, look, tidy
from avalanche_ext.report.labels import place_labels
from avalanche_ext.report.statistics import DECIMALS, Estimate, MethodStatistics
from avalanche_ext.report.sweep import value_text
from avalanche_ext.results.experiment import ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOLLOW = "white"


@dataclass(frozen=True)
class Point:
    """A method's learning accuracy and BWT over its runs; higher is better for both."""

    learning_accuracy: Estimate
    bwt: Estimate

    @property
    def means(self) -> tuple[float, float]:
        """Both means, rounded to DECIMALS."""
        return round(self.learning_accuracy.mean, DECIMALS), round(self.bwt.mean, DECIMALS)

    def dominates(self, other: Point) -> bool:
        """Return whether this is at least as good in both means, and better in one."""
        pairs = [*zip(self.means, other.means, strict=True)]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def tradeoff_points(statistics: Iterable[MethodStatistics]) -> dict[str, Point]:
    """Every method's point by its name, except without runs or with one experience only."""
    both = {
        each.name: (each.metrics["learning_accuracy"], each.metrics["BWT"]) for each in statistics
    }
    return {name: Point(x, y) for name, (x, y) in both.items() if x and y}


def swept_parameters(results: ExperimentResults) -> dict[str, str]:
    """The swept parameter of each setting, by the setting's name."""
    return {
        setting: sweep.parameter for sweep in results.sweeps.values() for setting in sweep.values
    }


def pareto_front(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """The names of the points that no other dominates; of equal points, all or none.

    Settings of different parameters are not compared, since there may be more of one than of the
    other.

    Args:
        points: The points by their methods' names.
        parameters: `swept_parameters` of the methods.
    """

    def meet(one: str, other: str) -> bool:
        both = parameters.get(one), parameters.get(other)
        return None in both or both[0] == both[1]

    return {
        name
        for name, point in points.items()
        if not any(other.dominates(point) and meet(name, rival) for rival, other in points.items())
    }


def settings_points(
    results: ExperimentResults, points: Mapping[str, Point]
) -> dict[str, dict[str, list[Point]]]:
    """The points of each swept method's settings, by parameter and method, where there are any."""
    by_parameter: dict[str, dict[str, list[Point]]] = {}
    for name, sweep in results.sweeps.items():
        found = [points[setting] for setting in sweep.values if setting in points]
        if found:
            by_parameter.setdefault(sweep.parameter, {})[name] = found
    return by_parameter


def beyond(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """The names of far outliers, which would crowd all other points of a picture into a corner.

    They lie more than three interquartile ranges outside the quartiles (Tukey 1977) in learning
    accuracy or BWT, and not on the Pareto front. The arguments are those of `pareto_front`.
    """
    means = np.array([point.means for point in points.values()])
    lower, upper = np.quantile(means, [0.25, 0.75], axis=0)
    reach = 3 * (upper - lower)
    outside = ((means < lower - reach) | (means > upper + reach)).any(axis=1)
    front = pareto_front(points, parameters)
    return {
        name for name, is_far in zip(points, outside, strict=True) if is_far and name not in front
    }


def n_dominated(ours: Sequence[Point], theirs: Sequence[Point]) -> int:
    """Count the points of theirs that some point of ours dominates."""
    return sum(any(point.dominates(other) for point in ours) for other in theirs)


def tradeoff_figure(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Figure | None:
    """BWT against learning accuracy: a curve through the settings of each swept method.

    Points are means over seeds, with bars of ± the standard error. Those on the Pareto front are
    filled, where settings are compared with those of the same parameter only. Points of settings
    carry their value where there is room. Methods that are not swept are single points. Far
    outliers are named below the frame instead of drawn in it.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.

    Returns:
        A figure without a window; None where BWT is undefined for all, with one experience.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    points = tradeoff_points(statistics)
    if not points:
        return None
    swept = swept_parameters(results)
    front = pareto_front(points, swept)
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    entries: list[Line2D] = []
    labels: list[tuple[tuple[float, float], str, str]] = []
    parameters: list[str] = []
    for index, (name, settings) in enumerate(results.groups.items()):
        drawn = [method.name for method in settings if method.name in points]
        if not drawn:
            continue
        _draw_curve(
            axes, [points[each] for each in drawn], [each in front for each in drawn], index
        )
        sweep = results.sweeps.get(name)
        entries.append(Line2D([], [], label=name, ls="-" if sweep else "", **look(index)))
        if sweep:
            parameters.append(sweep.parameter)
            colour = look(index)["color"]
            labels += [
                (points[each].means, value_text(sweep.values[each]), colour) for each in drawn
            ]
    marker: dict[str, Any] = {"ls": "", "marker": "o", "markersize": 5, "color": "grey"}
    of_each = "\nof its parameter" if len({*parameters}) > 1 else ""
    entries.append(Line2D([], [], label=f"on the Pareto front{of_each}", **marker))
    entries.append(Line2D([], [], label="dominated", markerfacecolor=_HOLLOW, **marker))
    axes.set_title(heading(results, "standard error"))
    axes.set_xlabel("learning accuracy (just after each experience)")
    axes.set_ylabel("backward transfer (BWT)")
    axes.margins(0.08)
    outside = beyond(points, swept)
    if outside:
        _frame(axes, [point for name, point in points.items() if name not in outside])
        axes.set_xlabel(
            f"{axes.get_xlabel()}\n\nnot in the frame (learning accuracy, BWT):\n"
            + _listed({name: points[name] for name in points if name in outside}),
        )
    axes.locator_params(axis="x", nbins=7)
    tidy(axes)
    figure.legend(
        handles=entries,
        title=f"labels: {', '.join(dict.fromkeys(parameters))}",
        loc="outside right upper",
        frameon=False,
    )
    place_labels(figure, axes, labels)
    return figure


def _draw_curve(axes: Axes, points: Sequence[Point], filled: Sequence[bool], index: int) -> None:
    appearance = look(index)
    colour = appearance["color"]
    x, y = zip(*(point.means for point in points), strict=True)
    axes.plot(x, y, color=colour, linewidth=1.2)
    axes.errorbar(
        x,
        y,
        xerr=[point.learning_accuracy.standard_error or 0.0 for point in points],
        yerr=[point.bwt.standard_error or 0.0 for point in points],
        fmt="none",
        ecolor=colour,
        elinewidth=0.9,
        alpha=0.7,
    )
    for i, on_front in enumerate(filled):
        face = colour if on_front else _HOLLOW
        axes.plot(x[i], y[i], ls="", markerfacecolor=face, zorder=3, **appearance)


def _frame(axes: Axes, points: Sequence[Point]) -> None:
    """Set the limits to show these points with their bars, and some space around them."""
    for estimates, set_limits in (
        ([point.learning_accuracy for point in points], axes.set_xlim),
        ([point.bwt for point in points], axes.set_ylim),
    ):
        low = min(each.mean - (each.standard_error or 0.0) for each in estimates)
        high = max(each.mean + (each.standard_error or 0.0) for each in estimates)
        space = 0.08 * (high - low) or 0.01
        set_limits(low - space, high + space)


def _listed(points: Mapping[str, Point], a_line: int = 2) -> str:
    texts = ["{} ({:.2f}, {:.2f})".format(name, *point.means) for name, point in points.items()]
    lines = [", ".join(texts[i : i + a_line]) for i in range(0, len(texts), a_line)]
    return ",\n".join(lines)
