"""The picture of swept methods: accuracy over the parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.statistics import MethodStatistics
from avalanche_ext.report.style import draw_with_band, heading, looks, measured_on, tidy
from avalanche_ext.results.experiment import ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS_A_ROW = 3
_LONGEST_UPRIGHT = 55
"""Number of characters, with gaps, that fit in a panel; longer tick labels are rotated."""


def sweep_figure(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Figure:
    """Draw ACC over the swept value: one line per method, one panel per parameter.

    Values are spaced equally, since those of a sweep seldom suit one scale (0 among powers of ten).
    Bands show ± the sample standard deviation over seeds. Methods that are not swept are dashed
    lines.

    Args:
        results: The experiment, with a finished run of a swept method.
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
        axes.set_ylabel(f"average accuracy (ACC){measured_on(results)}")
    figure.suptitle(heading(results, "std"))
    lines = {str(line.get_label()): line for axes in panels for line in axes.get_lines()}
    # As in the other pictures, the best are at the top.
    names = sorted(lines, key=lambda name: max(lines[name].get_ydata()), reverse=True)
    figure.legend([lines[name] for name in names], names, loc="outside right upper", frameon=False)
    return figure


def _draw_panel(
    axes: Axes, parameter: str, results: ExperimentResults, accuracies: dict[str, Estimate]
) -> None:
    swept = {name: sweep for name, sweep in results.sweeps.items() if sweep.parameter == parameter}
    ticks = _in_order(value for sweep in swept.values() for value in sweep.values.values())
    look = looks(results)
    for name in results.groups:
        if name in swept:
            values = swept[name].values
            drawn = [setting for setting in values if setting in accuracies]
            # Another method may sweep the same values in a different order.
            drawn.sort(key=lambda setting: ticks.index(value_text(values[setting])))
            x = [ticks.index(value_text(values[setting])) for setting in drawn]
            if drawn:
                places = [f"{parameter} = {ticks[each]}" for each in x]
                draw_with_band(
                    axes, x, [accuracies[each] for each in drawn], name, places, **look[name]
                )
        elif name in accuracies:
            mean = accuracies[name].mean
            axes.axhline(mean, ls="--", lw=1.2, label=name, clip_on=False, **look[name])
    turned = len(ticks) * (max(map(len, ticks)) + 1) > _LONGEST_UPRIGHT
    axes.set_xticks(range(len(ticks)), ticks, rotation=45 if turned else 0)
    axes.set_xlabel(f"{parameter} (evenly spaced)")


def value_text(value: Any) -> str:
    """Return a swept value as short text, the same for equal values.

    >>> value_text(0.10), value_text(1), value_text(1.0), value_text(True)
    ('0.1', '1', '1', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _in_order(values: Iterable[Any]) -> list[str]:
    """Return the values' texts, each once: numbers ascending, everything else in its order."""
    values = [*values]
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return [*dict.fromkeys(map(value_text, values))]
