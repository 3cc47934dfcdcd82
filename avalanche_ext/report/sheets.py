"""The tables of one experiment, independent of their output format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from avalanche_ext.report.absent import absent_sections
from avalanche_ext.report.columns import columns_of, metric_column, metric_title
from avalanche_ext.report.comparisons import caution
from avalanche_ext.report.layout import plus_minus
from avalanche_ext.report.notes import notes_of, on_best
from avalanche_ext.report.published import TITLES, published_numbers, published_rows
from avalanche_ext.report.sheet import Column, Sheet
from avalanche_ext.report.statistics import MethodStatistics, tests_in
from avalanche_ext.report.versions import mixed_versions
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.files import VALIDATION
from avalanche_ext.words import count

Reported = tuple[ExperimentResults, Sequence[MethodStatistics]]
"""An experiment with its `method_statistics`."""


def heading(results: ExperimentResults) -> str:
    """Return the first line of a report: the experiment, its progress, and the samples used."""
    finished = sum(len(method.cells) for method in results.methods)
    size = f"{count(len(results.methods), 'method')} x {count(len(results.seeds), 'seed')}"
    done = f"{finished} of {results.n_cells} runs finished"
    return f"{results.name}: {size}, {done}{_where(results)}"


def _where(results: ExperimentResults) -> str:
    is_held_out = results.split == VALIDATION
    return ", accuracies on held-out VALIDATION samples" if is_held_out else ""


def with_runs(experiment: Reported) -> Reported:
    """Return the same without methods that have no finished run; all if no method has one."""
    results, statistics = experiment
    shown = results.finished or results.methods
    names = {method.name for method in shown}
    return replace(results, methods=shown), [row for row in statistics if row.name in names]


def sheet_of(experiment: Reported) -> Sheet:
    """The table of one experiment, with a paper's numbers next to ours.

    Raises:
        ResultsError: If `published` names an unknown metric or method.
    """
    results, statistics = with_runs(experiment)
    columns = columns_of(results, statistics)
    published = published_numbers(experiment[0])
    for metric, theirs in published.items():
        title = metric_title(metric)
        places = [place for place, column in enumerate(columns) if column.title == title]
        if not places:
            columns.append(metric_column(metric, results, statistics))
            places = [len(columns) - 1]
        cells = [plus_minus(theirs.get(row.name)) for row in statistics]
        columns.insert(places[0] + 1, Column(f"{title}, published", cells))
    sheet = _sheet(experiment, columns)
    if published and results.published:
        reference = f"published: {results.published['reference']}."
        return replace(sheet, notes=[*sheet.notes, reference])
    return sheet


def paper_sheets(experiment: Reported) -> Iterator[Sheet]:
    """Yield the tables of one experiment for a paper: without costs, with published numbers apart.

    Raises:
        ResultsError: If `published` names an unknown metric or method.
    """
    results, statistics = with_runs(experiment)
    yield _sheet(experiment, columns_of(results, statistics, has_costs=False))
    rows = published_rows(*experiment)
    if rows and results.published:
        metrics, names, *others, _ = zip(*rows, strict=True)
        columns = [
            Column(title, cells)
            for title, cells in zip(("metric", *TITLES[2:-1]), [metrics, *others], strict=True)
        ]
        title = f"{results.name} compared with {results.published['reference']}"
        yield Sheet(f"{results.name}-published", title, title, names, columns, [], "", [])


def _sheet(experiment: Reported, columns: Sequence[Column]) -> Sheet:
    results, statistics = experiment
    _, shown = with_runs(experiment)
    n_seeds = max((len(method.cells) for method in results.methods), default=0)
    is_half = any(0 < len(method.cells) < n_seeds for method in results.methods)
    over = f"over {'up to ' * is_half}{count(n_seeds, 'seed')}"
    return Sheet(
        name=results.name,
        title=heading(results),
        caption=f"{results.name}: means {over}{_where(results)}",
        methods=[row.name for row in shown],
        columns=columns,
        notes=[
            *notes_of(results, statistics, columns),
            *caution(tests_in("ACC", statistics)),
        ],
        on_best=on_best([results], columns),
        absent=[*chain(*absent_sections(results), *mixed_versions(results))],
    )
