"""The report's pictures: accuracy over experiences, and the mean transfer matrix of each method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.metrics.heatmap import draw_matrix
from avalanche_ext.metrics.matrix import average_accuracy
from avalanche_ext.report.layout import count
from avalanche_ext.report.statistics import Estimate, estimate
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for the colour-blind too; yellow is too pale on white.
# Markers differ without colour. With seven colours and eight markers, a pair repeats only after 56
# methods.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = "osD^vP*X"

MOST_TICKS = 10
MOST_BANDS = 8


def accuracy_figure(results: ExperimentResults) -> Figure:
    """Mean accuracy on the experiences seen so far, after each experience: one line a method.

    Bands show ± the sample standard deviation over seeds, where there are at least two seeds and at
    most MOST_BANDS methods. A method trained iid has only its final ACC, as a short dashed line at
    the right end.

    Args:
        results: Results with at least one finished run.

    Returns:
        A figure without a window; `savefig` writes it.
    """
    figure, axes = _empty()
    curves = {method.name: _curves(method.matrices) for method in results.finished}
    draw = draw_with_band if _has_bands(curves) else draw_line
    length = next(iter(curves.values())).shape[1]
    for index, method in enumerate(results.methods):
        if method.name not in curves:
            continue
        estimates = [*filter(None, map(estimate, curves[method.name].T.tolist()))]
        if method.is_iid:
            ends = [0.9 * length, length]
            dashed = {"ls": "--", "markevery": [1]}
            draw(axes, ends, [estimates[-1]] * 2, index, method.name, **dashed)
        else:
            draw(axes, range(1, length + 1), estimates, index, method.name)
    has_iid = any(method.is_iid for method in results.finished)
    note = " (dashed: trained on all in random order)" if has_iid else ""
    axes.set_xlabel(f"experiences learned{note}")
    axes.set_ylabel("mean accuracy on the experiences seen so far")
    _finish(figure, axes, results, curves)
    return figure


def learning_figure(results: ExperimentResults) -> Figure | None:
    """Accuracy on each experience when it has just been learned, R[j,j]: one line a method.

    It shows how much a method still learns after many experiences. Bands are those of
    `accuracy_figure`; methods trained iid are left out.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None where there is nothing to draw.
    """
    curves = {
        method.name: method.matrices.diagonal(axis1=1, axis2=2)
        for method in results.finished
        if not method.is_iid
    }
    if not curves:
        return None
    figure, axes = _empty()
    draw = draw_with_band if _has_bands(curves) else draw_line
    for index, method in enumerate(results.methods):
        if method.name in curves:
            estimates = [*filter(None, map(estimate, curves[method.name].T.tolist()))]
            draw(axes, range(1, len(estimates) + 1), estimates, index, method.name)
    axes.set_xlabel("experience")
    axes.set_ylabel("accuracy on it when it has just been learned")
    _finish(figure, axes, results, curves)
    return figure


def matrices_figure(results: ExperimentResults) -> Figure | None:
    """The transfer matrix R of each method, averaged over its finished runs, in one colour scale.

    Methods trained iid are left out.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None where there is no matrix to draw.
    """
    from matplotlib.figure import Figure

    methods = [method for method in results.finished if not method.is_iid]
    if not methods:
        return None
    columns = len(methods) if len(methods) <= 3 else math.ceil(math.sqrt(len(methods)))
    rows = math.ceil(len(methods) / columns)
    figure = Figure(figsize=(3.6 * columns + 0.8, 3.7 * rows + 0.4), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, method in zip(grid.flat, methods, strict=False):
        image = draw_matrix(axes, method.matrices.mean(axis=0))
        axes.set_title(f"{method.name}, mean of {count(len(method.cells), 'run')}")
    for unused in grid.flat[len(methods) :]:
        unused.set_visible(False)
    figure.suptitle(f"{results.name}: transfer matrix R")
    figure.colorbar(image, ax=grid, label="accuracy", aspect=30)
    return figure


def _empty() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    return figure, figure.add_subplot()


def _has_bands(curves: dict[str, Floats]) -> bool:
    """Return whether there are so few lines that bands do not hide them."""
    return len(curves) <= MOST_BANDS


def _finish(
    figure: Figure, axes: Axes, results: ExperimentResults, curves: dict[str, Floats]
) -> None:
    """Give lines over experiences their axes, title and legend.

    Args:
        figure: The figure.
        axes: Its axes, with a line labelled with each method's name.
        results: The experiment.
        curves: The values of each method's runs, (n, T), whose mean its line is.
    """
    length = next(iter(curves.values())).shape[1]
    axes.set_title(heading(results, "std" if _has_bands(curves) else None))
    axes.set_xticks(range(1, length + 1, -(-length // MOST_TICKS)))
    axes.set_xlim(1 - 0.03 * length, length + 0.03 * length)
    axes.set_ylim(0.0, 1.02)
    tidy(axes)
    # The legend lists the lines from top to bottom as they end.
    names = sorted(curves, key=lambda name: curves[name][:, -1].mean(), reverse=True)
    lines = {line.get_label(): line for line in axes.get_lines()}
    figure.legend([lines[name] for name in names], names, loc="outside right upper", frameon=False)


def look(index: int) -> dict[str, Any]:
    """The colour and marker of the method at this place of the configuration."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
    }


def draw_with_band(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    index: int,
    label: str,
    **style: Any,
) -> None:
    """Draw a line of means, and a band of ± the standard deviation where there are some.

    Args:
        axes: The matplotlib axes to draw on.
        x: Where the points lie, (k,).
        estimates: The points' values, (k,).
        index: The method's place in the configuration.
        label: The line's name in the legend.
        style: Further properties of the line.
    """
    draw_line(axes, x, estimates, index, label, **style)
    mean = np.array([each.mean for each in estimates])
    std = np.array([each.std or 0.0 for each in estimates])
    if std.any():
        colour = look(index)["color"]
        axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def draw_line(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    index: int,
    label: str,
    **style: Any,
) -> None:
    """Draw a line of means; the arguments are those of `draw_with_band`."""
    axes.plot(x, [each.mean for each in estimates], label=label, **look(index), **style)


def heading(results: ExperimentResults, spread: str | None) -> str:
    """The title of a figure: the experiment's name, and what is drawn of several seeds.

    Args:
        results: The experiment.
        spread: What bands or bars show; None where there are none.
    """
    if not any(len(method.cells) > 1 for method in results.methods):
        return results.name
    return f"{results.name}, mean{f' ± {spread}' if spread else ''} over seeds"


def tidy(axes: Axes) -> None:
    """Give a plot a faint grid and no frame."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(matrices: Floats) -> Floats:
    """ACC after each experience, (n, T), from n matrices, (n, T, T)."""
    return np.array([[average_accuracy(R[: t + 1]) for t in range(len(R))] for R in matrices])
