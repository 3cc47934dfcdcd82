"""Plots for notebooks: functions that draw results on matplotlib's axes, and return them."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.metrics.heatmap import draw_matrix
from avalanche_ext.report.inside import draw_inside
from avalanche_ext.report.labels import place_labels
from avalanche_ext.report.statistics import defined, method_statistics
from avalanche_ext.report.streams import draw_accuracy, draw_ends, draw_learning
from avalanche_ext.report.style import chosen_on_test, measured_on
from avalanche_ext.report.tradeoff import tradeoff_points
from avalanche_ext.report.tradeoff_picture import draw_tradeoff
from avalanche_ext.results.data import Results
from avalanche_ext.results.exhibits import ContinualEvaluation
from avalanche_ext.results.experiment import ExperimentResults, read_exhibits
from avalanche_ext.results.record import ResultsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_accuracy(results: Results, experiment: str | None = None, ax: Axes | None = None) -> Axes:
    """Plot the mean accuracy on the experiences seen so far, after each: one line per method.

    For a swept method the best setting is drawn, and the title says on which samples it was chosen.

    Args:
        results: The result of `avalanche_ext.results.load`.
        experiment: The experiment; needed if there are several.
        ax: The axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ResultsError: If there is no such experiment, or none of its runs has finished.
    """
    found = _finished(results, experiment)
    axes = _axes(ax)
    draw_accuracy(axes, found)
    return _with_legend(axes, found)


def plot_learning(results: Results, experiment: str | None = None, ax: Axes | None = None) -> Axes:
    """Plot the accuracy on each experience just after learning it: one line per method.

    Methods trained iid are left out. Arguments, the returned axes and errors are those of
    `plot_accuracy`.
    """
    found = _finished(results, experiment)
    if all(method.is_iid for method in found.finished):
        raise ResultsError(f"{found.name}: methods trained iid do not learn experiences one by one")
    axes = _axes(ax)
    draw_learning(axes, found)
    return _with_legend(axes, found)


def plot_metric(
    results: Results,
    metric: str = "ACC",
    experiment: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot one metric of each run: one row per method, the highest on top, with its mean ± std.

    Args:
        results: The result of `avalanche_ext.results.load`.
        metric: Its name, a column of `results.frame()`.
        experiment: The experiment; needed if there are several.
        ax: The axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ResultsError: If there is no such experiment, or no finished run of it has the metric.
    """
    found = _finished(results, experiment)
    runs = found.run_metrics()
    names = [
        *dict.fromkeys(name for each in runs.values() for row in each.values() for name in row)
    ]
    if metric not in names:
        raise ResultsError(f"there is no metric '{metric}' (known: {', '.join(names)})")
    values = {
        name: np.array([*each.values()])
        for name, each in defined(runs, metric).items()
        if each and len(each) == len(runs[name])
    }
    if not values:
        raise ResultsError(f"{found.name}: '{metric}' is undefined for all finished runs")
    axes = _axes(ax)
    draw_ends(axes, found, values, metric, metric)
    return axes


def plot_matrix(
    results: Results,
    method: str,
    seed: int | None = None,
    experiment: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot R as a heatmap: accuracies on each test experience after each experience.

    Args:
        results: The result of `avalanche_ext.results.load`.
        method: The method.
        seed: The run; None for the mean over the finished runs.
        experiment: The experiment; needed if several have the method.
        ax: The axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ResultsError: If there is no such finished run.
    """
    R = results.matrix(method, seed, experiment)
    axes = _axes(ax)
    image = draw_matrix(axes, R)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=axes, label="accuracy")
    found = results.experiment_of(method, experiment)
    name = method if seed is None else f"{method}, seed {seed}"
    axes.set_title(f"{name}{measured_on(found)}")
    return axes


def plot_tradeoff(results: Results, experiment: str | None = None, ax: Axes | None = None) -> Axes:
    """Plot BWT against learning accuracy: means over seeds, with bars of ± the standard error.

    Curves go through the settings of swept methods. Points on the Pareto front are filled.
    Arguments, the returned axes and errors are those of `plot_accuracy`.
    """
    found = _finished(results, experiment)
    points = tradeoff_points(method_statistics(found))
    if not points:
        raise ResultsError(f"{found.name}: BWT is undefined for all finished runs")
    groups = {
        name: drawn
        for name, settings in found.groups.items()
        if (drawn := [method.name for method in settings if method.name in points])
    }
    axes = _axes(ax)
    labels = draw_tradeoff(axes, found, points, groups)
    axes.set_xlabel(f"learning accuracy (right after each experience){measured_on(found)}")
    axes.set_ylabel("backward transfer (BWT)")
    names = [(points[each].means, name) for name, drawn in groups.items() for each in drawn[:1]]
    figure = axes.get_figure(root=True)
    assert figure is not None
    texts = [(point, name, "black") for point, name in names if name not in found.sweeps]
    place_labels(figure, axes, [*labels, *texts])
    return axes


def plot_inside(
    results: Results,
    experience: int | None = None,
    experiment: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the accuracy inside experiences over mini-batches, of runs with `evaluate`.

    Args:
        results: The result of `avalanche_ext.results.load`.
        experience: The test experience, counted from 1; None for the mean over the experiences seen
            so far.
        experiment: The experiment; needed if there are several.
        ax: The axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ResultsError: If there is no such experiment, or none of its runs was evaluated so, or none
            of those has the test experience.
    """
    found = _finished(results, experiment)
    kept = read_exhibits(found, ContinualEvaluation)
    for path, error in kept.unreadable.items():
        raise ResultsError(f"{found.folder / path}: {error}")
    if not kept.methods:
        raise ResultsError(
            f"{found.name}: no run was evaluated inside experiences: run it with "
            "evaluate: {every: 50}"
        )
    n = max(each.curves.n_experiences for runs in kept.methods.values() for each in runs.values())
    if experience is not None and not 1 <= experience <= n:
        raise ResultsError(
            f"experience is {experience}, but must be from 1 to {n}: experiences count from 1"
        )
    axes = _axes(ax)
    draw_inside(axes, found, kept, experience)
    axes.legend(frameon=False)
    return axes


def _finished(results: Results, experiment: str | None) -> ExperimentResults:
    """Return an experiment that has a finished run."""
    found = results.experiment(experiment)
    if not found.finished:
        raise ResultsError(f"{found.name}: no run has finished yet")
    return found


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    _, axes = pyplot.subplots(layout="constrained")
    return axes


def _with_legend(axes: Axes, results: ExperimentResults) -> Axes:
    """Add the names of methods, and remarks on the settings that are drawn."""
    axes.legend(frameon=False)
    axes.set_title("\n".join(line for note in chosen_on_test(results) for line in wrap(note, 60)))
    return axes
