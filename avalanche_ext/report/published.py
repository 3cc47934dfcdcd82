"""A paper's numbers next to ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import NONE, aligned, number, plus_minus
from avalanche_ext.report.statistics import METRICS, MethodStatistics
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.record import ResultsError

TITLES = ("metric", "method", "ours", "published", "difference", "in published std")
"""The titles of the table of published numbers."""


def published_numbers(results: ExperimentResults) -> dict[str, dict[str, Estimate]]:
    """Return a paper's numbers by metric and method; empty if the experiment has none.

    Raises:
        ResultsError: If a metric or method is unknown.
    """
    names = {method.name for method in results.methods}
    found: dict[str, dict[str, Estimate]] = {}
    for metric, methods in (results.published or {}).items():
        if metric in ("reference", "rho_correlation"):
            continue
        for name, numbers in methods.items():
            if metric not in METRICS or name not in names:
                raise ResultsError(f"published.{metric}.{name}: no such metric or method here")
            theirs = Estimate(numbers["mean"], numbers.get("std"), 0)
            found.setdefault(metric, {})[name] = theirs
    return found


def published_section(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[list[str]]:
    """Yield the lines of the table of published numbers, if there are any.

    Raises:
        ResultsError: If a metric or method is unknown.
    """
    rows = published_rows(results, statistics)
    if rows and results.published:
        yield [f"Compared with {results.published['reference']}", *aligned([TITLES, *rows])]


def published_rows(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> list[list[str]]:
    """Return a row of texts below TITLES for each published number.

    Raises:
        ResultsError: If a metric or method is unknown.
    """
    ours: Mapping[str, Mapping[str, Estimate | None]] = {
        row.name: row.metrics for row in statistics
    }
    return [
        [metric, name, *_beside(ours[name][metric], theirs)]
        for metric, methods in published_numbers(results).items()
        for name, theirs in methods.items()
    ]


def _beside(ours: Estimate | None, theirs: Estimate) -> list[str]:
    cells = [plus_minus(ours), plus_minus(theirs)]
    if ours is None:
        return [*cells, NONE, NONE]
    difference = ours.mean - theirs.mean
    in_std = number(difference / theirs.std, 1, signed=True) if theirs.std else NONE
    return [*cells, number(difference, signed=True), in_std]
