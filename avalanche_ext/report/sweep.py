"""Pictures of swept methods: learning against forgetting, and accuracy over the parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avalanche_ext.report.figures import draw_with_band, heading, look, tidy
from avalanche_ext.report.labels import place_labels
from avalanche_ext.report.results import ExperimentResults
from avalanche_ext.report.statistics import Estimate, MethodStatistics
from avalanche_ext.report.tradeoff import (
    Point,
    beyond,
    pareto_front,
    swept_parameters,
    tradeoff_points,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOLLOW = "white"
_PANELS_A_ROW = 3
_LONGEST_UPRIGHT = 55
"""Characters, with gaps, for which a panel is wide enough; longer tick labels are turned."""


def tradeoff_figure(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Figure | None:
    """BWT against learning accuracy: a curve through the settings of each swept method.

    Points are means over seeds with bars of ± the standard error, filled where no other point is at
    least as good on both and better on one, and carry their value where there is room; settings are
    compared with those of the same parameter alone. Methods that are not swept are single points.
    Far outliers are named below the frame instead of drawn in it.

    Args:
        results: What the experiment's folder holds.
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
            labels += [(points[each].means, _text(sweep.values[each]), colour) for each in drawn]
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


def sweep_figure(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Figure:
    """ACC over the swept value: a line a method, a panel a parameter.

    Values stand in equal steps, since those of a sweep seldom suit one scale (0 among powers of
    ten). Bands show ± the sample standard deviation over seeds. Methods that are not swept are
    dashed lines.

    Args:
        results: What the experiment's folder holds, with a finished run of a swept method.
        statistics: `method_statistics` of the same results.

    Returns:
        A figure without a window; `savefig` writes it.
    """
    from matplotlib.figure import Figure

    accuracies = {each.name: acc for each in statistics if (acc := each.metrics["ACC"])}
    parameters = dict.fromkeys(
        sweep.parameter for sweep in results.sweeps.values() if accuracies.keys() & sweep.values
    )
    columns = min(len(parameters), _PANELS_A_ROW)
    rows = math.ceil(len(parameters) / columns)
    figure = Figure(figsize=(3.2 + 4.0 * columns, 0.4 + 3.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    panels = grid.flat[: len(parameters)]
    for axes, parameter in zip(panels, parameters, strict=True):
        _draw_panel(axes, parameter, results, accuracies)
        tidy(axes)
    for unused in grid.flat[len(parameters) :]:
        unused.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("average accuracy (ACC)")
    figure.suptitle(heading(results, "std"))
    lines = {str(line.get_label()): line for axes in panels for line in axes.get_lines()}
    # As in the other pictures, the best stand at the top.
    names = sorted(lines, key=lambda name: max(lines[name].get_ydata()), reverse=True)
    figure.legend([lines[name] for name in names], names, loc="outside right upper", frameon=False)
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
    """Show these points with their bars, and some space around them."""
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


def _draw_panel(
    axes: Axes, parameter: str, results: ExperimentResults, accuracies: dict[str, Estimate]
) -> None:
    swept = {name: sweep for name, sweep in results.sweeps.items() if sweep.parameter == parameter}
    ticks = _in_order(value for sweep in swept.values() for value in sweep.values.values())
    for index, name in enumerate(results.groups):
        if name in swept:
            values = swept[name].values
            drawn = [setting for setting in values if setting in accuracies]
            # A parameter's values may lie in another order in another method's sweep.
            drawn.sort(key=lambda setting: ticks.index(_text(values[setting])))
            x = [ticks.index(_text(values[setting])) for setting in drawn]
            if drawn:
                draw_with_band(axes, x, [accuracies[setting] for setting in drawn], index, name)
        elif name in accuracies:
            mean = accuracies[name].mean
            axes.axhline(mean, ls="--", lw=1.2, label=name, clip_on=False, **look(index))
    turned = len(ticks) * (max(map(len, ticks)) + 1) > _LONGEST_UPRIGHT
    axes.set_xticks(range(len(ticks)), ticks, rotation=45 if turned else 0)
    axes.set_xlabel(f"{parameter} (in equal steps)")


def _text(value: Any) -> str:
    """A swept value as short text: equal values have the same.

    >>> _text(0.10), _text(1), _text(1.0), _text(True)
    ('0.1', '1', '1', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _in_order(values: Iterable[Any]) -> list[str]:
    """The values' texts, each once: numbers ascending, anything else as it comes."""
    values = [*values]
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return [*dict.fromkeys(map(_text, values))]
