"""The picture of tests against the baseline: differences paired by seed, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avalanche_ext.report.comparisons import interval_text, wins_text
from avalanche_ext.report.layout import number, p_value
from avalanche_ext.report.paired import FEWEST_PAIRS, LEVEL, PairedTest
from avalanche_ext.report.rows import HEIGHT, Row, Span, draw_rows
from avalanche_ext.report.statistics import TESTED, MethodStatistics, tests_in
from avalanche_ext.report.style import looks, measured_on, set_title
from avalanche_ext.results.experiment import ExperimentResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def differences_figure(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Figure | None:
    """The mean difference of each method from the baseline, in each tested metric.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.

    Returns:
        A figure without a window; None if nothing is tested.
    """
    from matplotlib.figure import Figure

    tested = [metric for metric in TESTED if tests_in(metric, statistics)]
    if not tested:
        return None
    n_rows = max(len(tests_in(metric, statistics)) for metric in tested)
    figure = Figure(
        figsize=(1.0 + 4.7 * len(tested), max(2.6, 1.5 + HEIGHT * n_rows)), layout="constrained"
    )
    title = f"{results.name}{measured_on(results)}: differences from {results.baseline}"
    all_tests = [test for metric in tested for test in tests_in(metric, statistics).values()]
    notes = [f"paired by seed; no intervals or significance with fewer than {FEWEST_PAIRS} seeds"]
    if any(test.interval for test in all_tests):
        notes = [
            f"paired by seed; bars: 95 % intervals; filled: p < {LEVEL} after Holm's correction"
        ]
    set_title(figure, title, notes)
    for axes, metric in zip(figure.subplots(1, len(tested), squeeze=False)[0], tested, strict=True):
        draw_differences(axes, results, statistics, metric)
    return figure


def draw_differences(
    axes: Axes, results: ExperimentResults, statistics: Sequence[MethodStatistics], metric: str
) -> None:
    """Draw the mean difference of each method from the baseline, as `draw_rows` does.

    Bars are bootstrap intervals of the mean, if there are enough seeds. Markers of differences that
    are significant after Holm's correction are filled.

    Args:
        axes: The matplotlib axes to draw on.
        results: The experiment.
        statistics: `method_statistics` of the same results.
        metric: One of TESTED, in which at least one method is tested.
    """
    look = looks(results)
    draw_rows(
        axes,
        [
            _row(name, metric, test, look[name])
            for name, test in tests_in(metric, statistics).items()
        ],
        beside={str(results.baseline): Span(0.0, 0.0, 0.0)},
        signed=True,
    )
    axes.axvline(0.0, color="grey", lw=1.0, zorder=1)
    axes.set_xlabel(f"difference in {metric}{measured_on(results)}")


def _row(name: str, metric: str, test: PairedTest, look: Mapping[str, Any]) -> Row:
    assert test.difference
    mean, p = test.difference.mean, test.t_test_holm
    parts = [f"{name}: {metric} {number(mean, signed=True)}"]
    if test.interval:
        parts.append(interval_text(test.interval))
    return Row(
        name=name,
        mean=mean,
        bar=test.interval or (mean, mean),
        text=", ".join([*parts, f"Holm p {p_value(p)}", f"higher for {wins_text(test)} seeds"]),
        style=look,
        is_filled=test.is_significant,
    )
