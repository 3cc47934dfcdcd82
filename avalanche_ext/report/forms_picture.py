"""The picture of how well approximations of the Fisher predict it along the training path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.forms import by_iteration
from avalanche_ext.report.style import COLOURS, set_title, tidy
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.exhibits import FisherForms
from avalanche_ext.results.experiment import Exhibits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAND = (25, 75)
_WIDTH, _HEIGHT = 5.2, 4.0


def forms_figure(forms: Exhibits[FisherForms], notes: Sequence[str] = ()) -> Figure | None:
    """Draw the curvature along the training path by approximations of the Fisher, over the true.

    Each method has a column of two panels, with one line per approximation: δᵀ F̂ δ / δᵀ F δ over
    the iterations of the next experience, as the median over experiences and seeds, with the middle
    half as a band. The upper panel is for the Fisher of the previous experience alone; the lower
    one is for the sum over all experiences so far, once there are two. At 1 an approximation holds
    as firmly as the Fisher along the training path; far below 1, it does not protect what was
    learned.

    Args:
        forms: The exhibits of the experiment's runs.
        notes: Sentences below the title.

    Returns:
        A figure without a window; None if there is nothing to show.
    """
    from matplotlib.figure import Figure

    ratios = {
        name: [by_iteration(runs), by_iteration(runs, is_sum=True)]
        for name, runs in forms.methods.items()
    }
    ratios = {name: found for name, found in ratios.items() if found[0]}
    if not ratios:
        return None
    figure = Figure(figsize=(_WIDTH * len(ratios) + 2, 2 * _HEIGHT), layout="constrained")
    set_title(figure, "Curvature along the training path, relative to the Fisher F", notes)
    panels = figure.subplots(2, len(ratios), squeeze=False, sharey=True)
    for column, (name, both) in zip(panels.T, ratios.items(), strict=True):
        for axes, found, of in zip(
            column, both, ("the previous experience", "all previous experiences"), strict=True
        ):
            _draw(axes, found)
            axes.set_title(f"{name}: Fisher of {of}")
    for axes in panels[:, 0]:
        axes.set_ylabel("δᵀ F̂ δ / δᵀ F δ")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _draw(axes: Axes, ratios: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    for (form, values), colour in zip(ratios.items(), COLOURS, strict=False):
        iterations = sorted(values)
        rows: list[Floats] = [np.array(values[each]) for each in iterations]
        axes.plot(iterations, [np.median(row) for row in rows], color=colour, label=form)
        low, high = (np.array([np.percentile(row, end) for row in rows]) for end in _BAND)
        axes.fill_between(iterations, low, high, color=colour, alpha=0.15, lw=0)
    axes.axhline(1.0, ls=":", color="grey")
    axes.set_yscale("log")
    axes.set_xlabel("iteration of the next experience")
    tidy(axes)
