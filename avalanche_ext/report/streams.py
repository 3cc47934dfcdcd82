"""Pictures of accuracy over the stream: on the experiences seen so far, and just after learning.

`…_figure` makes a whole picture; `draw_…` draws one of its parts on axes of the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.metrics.matrix import average_accuracy
from avalanche_ext.report.estimates import estimate
from avalanche_ext.report.layout import number, plus_minus
from avalanche_ext.report.rows import HEIGHT, Row, Span, comparable, draw_rows, limits, span
from avalanche_ext.report.style import (
    MOST_TICKS,
    chosen_on_test,
    draw_line,
    draw_with_band,
    has_bands,
    heading,
    looks,
    measured_on,
    set_title,
    tidy,
)
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults, MethodResults
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEYOND = 0.02
"""The free part of an axis beyond the accuracies 0 and 1."""


def accuracy_figure(results: ExperimentResults) -> Figure:
    """Draw accuracy over the stream on the left, and after it on the right.

    The left part is from `draw_accuracy`, the right one from `draw_ends`, whose names serve as the
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
    """Draw the accuracy on each experience just after learning it, and its mean for each method.

    It shows how much a method still learns after many experiences. The left part is from
    `draw_learning`, the right one from `draw_ends`. Methods trained iid are left out.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None if there is nothing to draw.
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
    """Draw the mean accuracy on the experiences seen so far, after each: one line per method.

    Bands show ± the sample standard deviation over seeds, if there are at least two seeds and at
    most MOST_BANDS methods. A method trained iid has only its final ACC, as a short dashed line at
    the right end. The axis is scaled to show the differences, so the line of a method whose final
    ACC lies far from the others' may leave it. For a swept method, the setting with the highest
    mean ACC is drawn.

    Args:
        axes: The matplotlib axes to draw on.
        results: Results with at least one finished run.
    """
    shown = results.with_best_settings()
    curves = {method.name: _curves(method.matrices) for method in shown.finished}
    length = next(iter(curves.values())).shape[1]
    iid = {method.name for method in shown.finished if method.is_iid}
    after = [f"after experience {i}" for i in range(1, length + 1)]
    look = looks(shown)
    for name, values in curves.items():
        if name in iid:
            last = values[:, -1:].repeat(2, axis=1)
            style = {"ls": "--", "markevery": [1], **look[name]}
            where = ["trained iid"] * 2
            _draw(axes, [0.9 * length, length], last, name, where, curves, **style)
        else:
            _draw(axes, range(1, length + 1), values, name, after, curves, **look[name])
    note = " (dashed: trained iid)" if iid else ""
    axes.set_xlabel(f"experiences learned{note}")
    axes.set_ylabel(f"mean accuracy so far{measured_on(results)}")
    _finish_stream(axes, curves, {name: values[:, -1] for name, values in curves.items()}, iid)


def draw_learning(axes: Axes, results: ExperimentResults) -> None:
    """Draw R[j,j], the accuracy on each experience just after learning it: one line per method.

    Bands and the axis are as in `draw_accuracy`; methods trained iid are left out.

    Args:
        axes: The matplotlib axes to draw on.
        results: Results with a finished run that was not trained iid.
    """
    shown = results.with_best_settings()
    curves = _diagonals(shown)
    look = looks(shown)
    for name, values in curves.items():
        x = range(1, values.shape[1] + 1)
        on = [f"on experience {i}" for i in x]
        _draw(axes, x, values, name, on, curves, **look[name])
    axes.set_xlabel("experience")
    axes.set_ylabel(f"accuracy right after training on it{measured_on(results)}")
    _finish_stream(axes, curves, {name: each.mean(axis=1) for name, each in curves.items()}, set())


def draw_ends(
    axes: Axes,
    results: ExperimentResults,
    values: Mapping[str, Floats],
    what: str,
    label: str,
) -> None:
    """Draw one number of each run: one row per method, as in `draw_rows`, with its mean ± std.

    Args:
        axes: The matplotlib axes to draw on.
        results: The experiment, whose order gives methods their colours.
        values: The number of each run by method, (n,).
        what: Its name.
        label: The text below the axis.
    """
    look = looks(results)
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
                style=look[name],
                values=each.tolist(),
                texts=texts,
            )
        )
    draw_rows(axes, rows)
    spread = "\nmean ± std; ticks: seeds" if any(len(each) > 1 for each in values.values()) else ""
    axes.set_xlabel(f"{label}{measured_on(results)}{spread}")


def _two_parts(results: ExperimentResults, rows: Mapping[str, Floats]) -> tuple[Figure, Axes, Axes]:
    """Return a figure with a title, axes for curves, and axes with a row for each of `rows`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, max(4.2, 1.3 + HEIGHT * len(rows))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    spread = "std" if has_bands(rows) else None
    set_title(figure, heading(results, spread), chosen_on_test(results))
    return figure, left, right


def _finish_stream(
    axes: Axes, curves: Mapping[str, Floats], ends: Mapping[str, Floats], iid: set[str]
) -> None:
    """Set ticks for lines over experiences, and limits that show their differences.

    Args:
        axes: The axes.
        curves: The values of each method's runs, (n, T); its line is their mean.
        ends: The number of each run in which methods should be distinguishable, (n,).
        iid: The methods for which only the last value is drawn.
    """
    length = next(iter(curves.values())).shape[1]
    axes.set_xticks(range(1, length + 1, -(-length // MOST_TICKS)))
    axes.set_xlim(1 - 0.03 * length, length + 0.03 * length)
    near = comparable({name: span(each) for name, each in ends.items()})
    drawn = {name: each[:, -1:] if name in iid else each for name, each in curves.items()}
    low, high = limits([_reach(drawn[name], has_bands(curves)) for name in near])
    # mean ± std may exceed [0, 1].
    axes.set_ylim(max(low, -_BEYOND), min(high, 1.0 + _BEYOND))
    tidy(axes)


def _reach(values: Floats, has_band: bool) -> Span:
    """Return everything drawn for the curves of n runs, (n, k): mean, and ± std with a band."""
    mean = values.mean(axis=0)
    std = values.std(axis=0, ddof=1) if has_band and len(values) > 1 else np.zeros_like(mean)
    return Span(float(mean.mean()), float((mean - std).min()), float((mean + std).max()))


def _draw(
    axes: Axes,
    x: Sequence[float],
    values: Floats,
    name: str,
    places: Sequence[str],
    all_curves: Mapping[str, Floats],
    **style: Any,
) -> None:
    """Draw the means of values, (n, k), over x, (k,), with a band if the lines are few."""
    estimates = [*filter(None, map(estimate, values.T.tolist()))]
    draw = draw_with_band if has_bands(all_curves) else draw_line
    draw(axes, x, estimates, name, places, **style)


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
