"""The picture of how well forms of the Fisher predict it along the path of training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

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
    """The curvature along the path of training that forms of the Fisher see, over the true one.

    A column of two panels a method, a line a form: δᵀ F̂ δ / δᵀ F δ by the iterations of the next
    experience, the median over experiences and seeds with the middle half as a band. Above, of the
    Fisher of the experience before alone; below, of the sum over all experiences so far, once there
    are two. At 1 a form is as firm as the Fisher along the path that training takes; far below, it
    lets go of what was learned.

    Args:
        forms: What the experiment's runs have kept.
        notes: Sentences below the title.

    Returns:
        A figure without a window; None where there is nothing to show.
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
    set_title(figure, "Curvature along the path of training that each form sees", notes)
    panels = figure.subplots(2, len(ratios), squeeze=False, sharey=True)
    for column, (name, both) in zip(panels.T, ratios.items(), strict=True):
        for axes, found, of in zip(
            column, both, ("the experience before", "all before"), strict=True
        ):
            _draw(axes, found)
            axes.set_title(f"{name}: Fisher of {of}")
    for axes in panels[:, 0]:
        axes.set_ylabel("δᵀ F̂ δ / δᵀ F δ")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def by_iteration(
    runs: Mapping[int, FisherForms], is_sum: bool = False
) -> dict[str, dict[int, list[float]]]:
    """Return δᵀ F̂ δ / δᵀ F δ of each form by the iteration, of all experiences and seeds.

    Points where the weights have not moved in any direction that F sees are left out.

    Args:
        runs: A method's runs, by seed.
        is_sum: Whether F is the sum over all experiences so far, from the second one on.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for run in runs.values():
        true, estimated = run.true, run.estimated
        if is_sum:
            true, estimated = run.true_sum[1:], run.estimated_sum[1:]
        for i, form in enumerate(run.form.tolist()):
            values = found.setdefault(form, defaultdict(list))
            for row, iterations in enumerate(run.iteration[len(run.iteration) - len(true) :]):
                for m in np.flatnonzero(true[row] > 0):
                    ratio = float(estimated[row, i, m] / true[row, m])
                    values[int(iterations[m])].append(ratio)
    return {form: {**values} for form, values in found.items() if values}


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
