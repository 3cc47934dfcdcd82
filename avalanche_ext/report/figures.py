"""The report's pictures: accuracy over experiences, and the mean transfer matrix of each method.

`…_figure` makes a whole picture; `draw_…` draws one of its parts on axes of the caller's.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.metrics.heatmap import draw_matrix
from avalanche_ext.metrics.matrix import average_accuracy
from avalanche_ext.report.estimates import Estimate, estimate
from avalanche_ext.report.layout import count, number, plus_minus
from avalanche_ext.report.rows import HEIGHT, SMALL, Row, Span, comparable, draw_rows, limits, span
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults, MethodResults
from avalanche_ext.results.files import VALIDATION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's colours, which differ for the colour-blind too; yellow is too pale on white.
# Markers differ without colour. With seven colours and eight markers, a pair repeats only after 56
# methods.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = "osD^vP*X"

MOST_TICKS = 10
MOST_BANDS = 8
MOST_WITH_TEXTS = 12
"""The most methods whose matrices have texts: these take most of the time of a picture."""

_CHARACTERS_PER_INCH = 10
"""How many characters of a title fit on an inch."""


def accuracy_figure(results: ExperimentResults) -> Figure:
    """Accuracy over the stream on the left; after it on the right, where methods can be told apart.

    The left part is that of `draw_accuracy`, the right one that of `draw_ends`, whose names are the
    legend of both.

    Args:
        results: Results with at least one finished run.

    Returns:
        A figure without a window; `savefig` writes it.
    """
    shown = results.with_best_settings()
    ends = {method.name: _ends(method) for method in shown.finished}
    figure, stream, end = _two_parts(results, ends)
    draw_accuracy(stream, results)
    draw_ends(end, shown, ends, "ACC", "ACC after the last experience")
    return figure


def learning_figure(results: ExperimentResults) -> Figure | None:
    """Accuracy on each experience when it has just been learned, and its mean for each method.

    It shows how much a method still learns after many experiences. The left part is that of
    `draw_learning`, the right one that of `draw_ends`. Methods trained iid are left out.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None where there is nothing to draw.
    """
    shown = results.with_best_settings()
    means = {name: values.mean(axis=1) for name, values in _diagonals(shown).items()}
    if not means:
        return None
    figure, stream, end = _two_parts(results, means)
    draw_learning(stream, results)
    draw_ends(end, shown, means, "learning accuracy", "learning accuracy (mean over experiences)")
    return figure


def draw_accuracy(axes: Axes, results: ExperimentResults) -> None:
    """Draw the mean accuracy on the experiences seen so far, after each: one line a method.

    Bands show ± the sample standard deviation over seeds, where there are at least two seeds and at
    most MOST_BANDS methods. A method trained iid has only its final ACC, as a short dashed line at
    the right end. The axis shows the differences: the line of a method whose final ACC lies far
    from the others' may leave it. Of a swept method the setting with the highest mean ACC is drawn.

    Args:
        axes: The matplotlib axes to draw on.
        results: Results with at least one finished run.
    """
    shown = results.with_best_settings()
    curves = {method.name: _curves(method.matrices) for method in shown.finished}
    length = next(iter(curves.values())).shape[1]
    iid = {method.name for method in shown.finished if method.is_iid}
    after = [f"after experience {i}" for i in range(1, length + 1)]
    for index, method in enumerate(shown.methods):
        if method.name in iid:
            last = curves[method.name][:, -1:].repeat(2, axis=1)
            style: dict[str, Any] = {"ls": "--", "markevery": [1]}
            where = ["trained on all in random order"] * 2
            _draw(axes, [0.9 * length, length], last, index, method.name, where, curves, **style)
        elif method.name in curves:
            x = range(1, length + 1)
            _draw(axes, x, curves[method.name], index, method.name, after, curves)
    note = " (dashed: trained on all in random order)" if iid else ""
    axes.set_xlabel(f"experiences learned{note}")
    axes.set_ylabel(f"mean accuracy so far{measured_on(results)}")
    _finish_stream(axes, curves, {name: values[:, -1] for name, values in curves.items()}, iid)


def draw_learning(axes: Axes, results: ExperimentResults) -> None:
    """Draw R[j,j], the accuracy on each experience when it has just been learned: a line a method.

    Bands and the axis are as in `draw_accuracy`; methods trained iid are left out.

    Args:
        axes: The matplotlib axes to draw on.
        results: Results with a finished run that was not trained iid.
    """
    shown = results.with_best_settings()
    curves = _diagonals(shown)
    for index, method in enumerate(shown.methods):
        if method.name in curves:
            x = range(1, curves[method.name].shape[1] + 1)
            on = [f"on experience {i}" for i in x]
            _draw(axes, x, curves[method.name], index, method.name, on, curves)
    axes.set_xlabel("experience")
    axes.set_ylabel(f"accuracy just after learning it{measured_on(results)}")
    _finish_stream(axes, curves, {name: each.mean(axis=1) for name, each in curves.items()}, set())


def draw_ends(
    axes: Axes,
    results: ExperimentResults,
    values: Mapping[str, Floats],
    what: str,
    label: str,
) -> None:
    """Draw one number of each run: a row a method, as `draw_rows` does, with its mean ± std.

    Args:
        axes: The matplotlib axes to draw on.
        results: The experiment, whose order gives methods their colours.
        values: The number of each run by method, (n,).
        what: Its name.
        label: The text below the axis.
    """
    places = {method.name: place for place, method in enumerate(results.methods)}
    seeds = {method.name: [*method.cells] for method in results.methods}
    rows = []
    for name, each in values.items():
        over_seeds = estimate(each.tolist())
        assert over_seeds
        mean, std = over_seeds.mean, over_seeds.std or 0.0
        texts = [
            f"{name}, seed {seed}: {what} {number(value)}"
            for seed, value in zip(seeds[name], each, strict=True)
        ]
        rows.append(
            Row(
                name=name,
                mean=mean,
                bar=(mean - std, mean + std),
                text=f"{name}: {what} {plus_minus(over_seeds)} over {count(over_seeds.n, 'seed')}",
                style=look(places[name]),
                values=each.tolist(),
                texts=texts,
            )
        )
    draw_rows(axes, rows)
    axes.set_xlabel(f"{label}{measured_on(results)}")


def matrices_figure(results: ExperimentResults) -> Figure | None:
    """The transfer matrix R of each method, averaged over its finished runs, in one colour scale.

    The row above shows the untrained model, which FWT is measured against. Methods trained iid are
    left out. Of a swept method the setting with the highest mean ACC is drawn. More than
    MOST_WITH_TEXTS methods have small matrices without numbers and ticks.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None where there is no matrix to draw.
    """
    from matplotlib.figure import Figure

    methods = [method for method in results.with_best_settings().finished if not method.is_iid]
    if not methods:
        return None
    columns = len(methods) if len(methods) <= 3 else math.ceil(math.sqrt(len(methods)))
    rows = math.ceil(len(methods) / columns)
    has_texts = len(methods) <= MOST_WITH_TEXTS
    width, height = (3.6, 4.0) if has_texts else (1.8, 2.0)
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.4), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, method in zip(grid.flat, methods, strict=False):
        untrained = np.mean([cell.untrained for cell in method.cells.values()], axis=0)
        image = draw_matrix(axes, method.matrices.mean(axis=0), untrained, is_bare=not has_texts)
        if has_texts:
            axes.set_title(f"{method.name}, mean of {count(len(method.cells), 'run')}")
        else:
            axes.set_title(method.name, fontsize=SMALL)
    for unused in grid.flat[len(methods) :]:
        unused.set_visible(False)
    title = f"{results.name}{measured_on(results)}: transfer matrix R"
    set_title(figure, title, chosen_on_test(results))
    figure.colorbar(image, ax=grid, label="accuracy", aspect=30)
    return figure


def chosen_on_test(results: ExperimentResults) -> list[str]:
    """What a caption must say of pictures that draw one setting of a swept method, if there is one.

    Args:
        results: The experiment, with all settings.
    """
    if not results.sweeps:
        return []
    names = [*results.sweeps]
    which = names[0] if len(names) == 1 else f"each of {len(names)} swept methods"
    return [f"Of {which}: the setting with the highest mean ACC, chosen on these same results"]


def set_title(figure: Figure | SubFigure, title: str, notes: Sequence[str] = ()) -> None:
    """Write the title of a picture or of a part of it, and notes as lines that fit below."""
    width = int(_CHARACTERS_PER_INCH * figure.get_figure(root=True).get_figwidth())
    lines = [title, *(line for note in notes for line in textwrap.wrap(note, width))]
    figure.suptitle("\n".join(lines), fontsize=11)


def _two_parts(results: ExperimentResults, rows: Mapping[str, Floats]) -> tuple[Figure, Axes, Axes]:
    """A figure with a title, axes for curves, and axes with a row for each of `rows`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, max(4.2, 1.3 + HEIGHT * len(rows))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    spread = "std" if _has_bands(rows) else None
    set_title(figure, heading(results, spread), chosen_on_test(results))
    return figure, left, right


def _has_bands(curves: Mapping[str, Floats]) -> bool:
    """Return whether there are so few lines that bands do not hide them."""
    return len(curves) <= MOST_BANDS


def _finish_stream(
    axes: Axes, curves: Mapping[str, Floats], ends: Mapping[str, Floats], iid: set[str]
) -> None:
    """Give lines over experiences their ticks, and limits that show their differences.

    Args:
        axes: The axes.
        curves: The values of each method's runs, (n, T), whose mean its line is.
        ends: The number of each run by which methods are told apart, (n,).
        iid: The methods of whose values only the last is drawn.
    """
    length = next(iter(curves.values())).shape[1]
    axes.set_xticks(range(1, length + 1, -(-length // MOST_TICKS)))
    axes.set_xlim(1 - 0.03 * length, length + 0.03 * length)
    near = comparable({name: span(each) for name, each in ends.items()})
    drawn = {name: each[:, -1:] if name in iid else each for name, each in curves.items()}
    axes.set_ylim(*limits([_reach(drawn[name], _has_bands(curves)) for name in near]))
    tidy(axes)


def _reach(values: Floats, has_band: bool) -> Span:
    """What is drawn of the curves of n runs, (n, k): their mean, and ± std where it has a band."""
    mean = values.mean(axis=0)
    std = values.std(axis=0, ddof=1) if has_band and len(values) > 1 else np.zeros_like(mean)
    return Span(float(mean.mean()), float((mean - std).min()), float((mean + std).max()))


def look(index: int) -> dict[str, Any]:
    """The colour and marker of the method at this place of the configuration."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
    }


def _draw(
    axes: Axes,
    x: Sequence[float],
    values: Floats,
    index: int,
    name: str,
    places: Sequence[str],
    all_curves: Mapping[str, Floats],
    **style: Any,
) -> None:
    """Draw the means of values, (n, k), over x, (k,), with a band if the lines are few."""
    estimates = [*filter(None, map(estimate, values.T.tolist()))]
    draw = draw_with_band if _has_bands(all_curves) else draw_line
    draw(axes, x, estimates, index, name, places, **style)


def draw_with_band(
    axes: Axes,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    index: int,
    label: str,
    places: Sequence[str],
    **style: Any,
) -> None:
    """Draw a line of means, and a band of ± the standard deviation where there are some.

    Args:
        axes: The matplotlib axes to draw on.
        x: Where the points lie, (k,).
        estimates: The points' values, (k,).
        index: The method's place in the configuration.
        label: The line's name in the legend.
        places: What each x means, (k,), such as "after experience 2".
        style: Further properties of the line.
    """
    draw_line(axes, x, estimates, index, label, places, **style)
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
    axes.add_line(Series(x, means, texts, label=label, **look(index), **style))
    axes.autoscale_view()


def heading(results: ExperimentResults, spread: str | None) -> str:
    """The title of a figure: the experiment's name, and what is drawn of several seeds.

    Args:
        results: The experiment.
        spread: What bands or bars show; None where there are none.
    """
    name = f"{results.name}{measured_on(results)}"
    if not any(len(method.cells) > 1 for method in results.methods):
        return name
    return f"{name}, mean{f' ± {spread}' if spread else ''} over seeds"


def measured_on(results: ExperimentResults) -> str:
    """What a label adds where accuracies are not those on the test stream."""
    return " (VALIDATION)" if results.split == VALIDATION else ""


def tidy(axes: Axes) -> None:
    """Give a plot a faint grid and no frame."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(matrices: Floats) -> Floats:
    """ACC after each experience, (n, T), from n matrices, (n, T, T)."""
    return np.array([[average_accuracy(R[: t + 1]) for t in range(len(R))] for R in matrices])


def _ends(method: MethodResults) -> Floats:
    """The final ACC of each finished run, (n,)."""
    ends: Floats = method.matrices[:, -1].mean(axis=1)
    return ends


def _diagonals(results: ExperimentResults) -> dict[str, Floats]:
    """R[j,j] of each run, (n, T), of the methods that were not trained iid."""
    return {
        method.name: method.matrices.diagonal(axis1=1, axis2=2)
        for method in results.finished
        if not method.is_iid
    }
