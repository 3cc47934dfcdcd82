"""Pictures of accuracies inside experiences, for runs with `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.metrics.curves import AccuracyCurves
from avalanche_ext.report.estimates import estimate
from avalanche_ext.report.rows import Span, comparable, limits
from avalanche_ext.report.style import (
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
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.results.experiment import Exhibits, ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def inside_figure(
    results: ExperimentResults, kept: Exhibits[ContinualEvaluation], notes: Sequence[str] = ()
) -> Figure | None:
    """Draw accuracy over mini-batches: on the experiences seen so far, and on the first one.

    On the right, the drop and recovery after an experience begins is the stability gap (De Lange et
    al., 2023, figure 2).

    Args:
        results: The experiment.
        kept: The accuracies of its runs.
        notes: Sentences below the title.

    Returns:
        A figure without a window; None if no run was evaluated inside experiences.
    """
    from matplotlib.figure import Figure

    if not kept.methods:
        return None
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_inside(left, results, kept)
    draw_inside(right, results, kept, experience=1)
    title = heading(results, "std" if has_bands(kept.methods) else None)
    set_title(figure, title, notes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def draw_inside(
    axes: Axes,
    results: ExperimentResults,
    kept: Exhibits[ContinualEvaluation],
    experience: int | None = None,
) -> None:
    """Draw accuracy over all mini-batches of the stream: one line per method, the mean over seeds.

    Markers show the ends of experiences, and dotted lines those of the first method. Bands show ±
    the sample standard deviation over seeds, if there are few methods. The axis is scaled to show
    the differences since the end of the first experience.

    Args:
        axes: The matplotlib axes to draw on.
        results: The experiment, whose order gives methods their colours.
        kept: The accuracies of its runs.
        experience: The test experience, counted from 1; None for the mean over the experiences seen
            so far.
    """
    draw = draw_with_band if has_bands(kept.methods) else draw_line
    look = looks(results)
    ends: list[float] = []
    reaches: dict[str, Span] = {}
    for name, runs in kept.methods.items():
        drawn = _drawn({seed: exhibit.curves for seed, exhibit in runs.items()}, experience)
        if drawn is None:
            continue
        x, values, places, at_ends = drawn
        estimates = [*filter(None, map(estimate, values.T.tolist()))]
        draw(axes, x, estimates, name, places, markevery=at_ends, linewidth=1.2, **look[name])
        ends = ends or [x[i] for i in at_ends]
        since_first = values.mean(axis=0)[at_ends[0] if at_ends else 0 :]
        low, high = float(since_first.min()), float(since_first.max())
        reaches[name] = Span(float(since_first[-1]), low, high)
    for end in ends[:-1]:
        axes.axvline(end, color="grey", linewidth=0.8, linestyle=":", zorder=0)
    on = "the experiences seen so far" if experience is None else f"experience {experience}"
    axes.set_xlabel("training mini-batches" + " (dotted: end of an experience)" * (len(ends) > 1))
    what = f"accuracy on {on}" if experience else f"mean accuracy on {on}"
    axes.set_ylabel(f"{what}{measured_on(results)}")
    if reaches:
        axes.set_ylim(*limits([reaches[name] for name in comparable(reaches)]))
    tidy(axes)


def _drawn(
    runs: Mapping[int, AccuracyCurves], experience: int | None
) -> tuple[list[float], Floats, list[str], list[int]] | None:
    """Return positions, (k,), values, (n, k), texts, and which points end an experience.

    Only points that all runs share count. None if there are none.
    """
    values: list[dict[tuple[int, int], float]] = []
    for curves in runs.values():
        rows = [*zip(curves.experience.tolist(), curves.batch.tolist(), strict=True)]
        if experience is None:
            y = curves.mean_over_seen()
        elif experience <= curves.accuracy.shape[1]:
            y = np.where(curves.trained, curves.accuracy[:, experience - 1], np.nan)
        else:
            continue
        found = {row: value for row, value in zip(rows, y.tolist(), strict=True) if value == value}
        values.append(found)
    if not values or not values[0]:
        return None
    points = sorted(set.intersection(*map(set, values)))
    longest = next(iter(runs.values()))
    sizes = {int(longest.experience[end]): int(longest.batch[end]) for end in longest.ends()}
    before = {k: sum(size for other, size in sizes.items() if other < k) for k in sizes}
    x = [float(before[k] + b) for k, b in points]
    places = [f"after mini-batch {b} of experience {k + 1}" for k, b in points]
    at_ends = [i for i, (k, b) in enumerate(points) if b == sizes[k]]
    return x, np.array([[found[point] for point in points] for found in values]), places, at_ends
