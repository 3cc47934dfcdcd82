"""The look of pictures: a colour for each method, titles and their remarks, lines and bands."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import plus_minus
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.files import VALIDATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's palette for colour-blind readers, without yellow, which is too pale on white. With
# seven colours and eight markers, a pair repeats only after 56 methods.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = "osD^vP*X"

MOST_TICKS = 10
MOST_BANDS = 8

_CHARACTERS_PER_INCH = 10
"""Number of characters of a title that fit in an inch."""


def looks(results: ExperimentResults) -> dict[str, dict[str, Any]]:
    """Return the colour and marker of each method by name, in all pictures and on the page.

    They follow from the method's place in the configuration, so a method keeps them even while
    others are missing. All settings of a swept method share those of the method.
    """
    return {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 5,
        }
        for name, place in (results.places or places_in([results])).items()
    }


def places_in(experiments: Sequence[ExperimentResults]) -> dict[str, int]:
    """Number the methods of experiments by name; settings of a swept one share its number."""
    found: dict[str, int] = {}
    n_placed = 0
    for results in experiments:
        for name, settings in results.groups.items():
            if name not in found:
                found[name] = n_placed
                n_placed += 1
            found |= {each.name: found[name] for each in settings if each.name not in found}
    return found


def heading(results: ExperimentResults, spread: str | None) -> str:
    """Return the title of a figure: the experiment's name, and what is shown over several seeds.

    Args:
        results: The experiment.
        spread: What bands or bars show; None if there are none.
    """
    name = f"{results.name}{measured_on(results)}"
    if not any(len(method.cells) > 1 for method in results.methods):
        return name
    return f"{name}, mean{f' ± {spread}' if spread else ''} over seeds"


def measured_on(results: ExperimentResults) -> str:
    """Return a label's suffix if accuracies were not measured on the test stream."""
    return " (VALIDATION)" if results.split == VALIDATION else ""


def chosen_on_test(results: ExperimentResults) -> list[str]:
    """Return the caption's remark on pictures that draw one setting of a swept method, if any.

    Args:
        results: The experiment, with all settings.
    """
    if not results.sweeps:
        return []
    names = [*results.sweeps]
    which = names[0] if len(names) == 1 else f"each of {len(names)} swept methods"
    return [
        f"For {which}, only the setting with the highest mean ACC on these same results is shown"
        + " (among those with the most finished runs)" * _have_unlike_runs(results)
    ]


def _have_unlike_runs(results: ExperimentResults) -> bool:
    """Return whether some settings of a swept method have more finished runs than others."""
    return any(
        len({len(method.cells) for method in results.groups[name]}) > 1 for name in results.sweeps
    )


def set_title(figure: Figure | SubFigure, title: str, notes: Sequence[str] = ()) -> None:
    """Write the title of a picture or of a part of it, and notes below, wrapped to its width."""
    width = int(_CHARACTERS_PER_INCH * figure.get_figure(root=True).get_figwidth())
    lines = [title, *(line for note in notes for line in textwrap.wrap(note, width))]
    figure.suptitle("\n".join(lines), fontsize=11)


def tidy(axes: Axes) -> None:
    """Give a plot a faint grid and no frame."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def has_bands(lines: Collection[object]) -> bool:
    """Return whether there are few enough lines that bands do not hide them."""
    return len(lines) <= MOST_BANDS


def draw_with_band(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    label: str,
    places: Sequence[str],
    **style: Any,
) -> None:
    """Draw a line of means, with a band of ± the standard deviations if there are any.

    Args:
        axes: The matplotlib axes to draw on.
        x: Positions of the points, (k,).
        estimates: The points' values, (k,).
        label: The line's name in the legend.
        places: The meaning of each x, (k,), such as "after experience 2".
        style: The method's look, and further properties of the line.
    """
    draw_line(axes, x, estimates, label, places, **style)
    mean = np.array([each.mean for each in estimates])
    std = np.array([each.std or 0.0 for each in estimates])
    if std.any():
        axes.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.18, linewidth=0)


def draw_line(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    label: str,
    places: Sequence[str],
    **style: Any,
) -> None:
    """Draw a line of means; the arguments are those of `draw_with_band`."""
    from avalanche_ext.report.series import Series

    texts = [
        f"{label}, {place}: {plus_minus(each)}"
        for place, each in zip(places, estimates, strict=True)
    ]
    means = [each.mean for each in estimates]
    axes.add_line(Series(x, means, texts, label=label, **style))
    axes.autoscale_view()
