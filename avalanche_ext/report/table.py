"""An experiment's report as text: for the terminal, and for report.txt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avalanche_ext.report.absent import absent_sections
from avalanche_ext.report.choices import choices_section
from avalanche_ext.report.claims import claim_tests, claims_section
from avalanche_ext.report.columns import columns_of
from avalanche_ext.report.comparisons import caution, comparison_lines
from avalanche_ext.report.layout import NONE, aligned, to_the_right, wrapped
from avalanche_ext.report.notes import notes_of
from avalanche_ext.report.published import published_section
from avalanche_ext.report.sheet import Column
from avalanche_ext.report.sheets import heading, with_runs
from avalanche_ext.report.statistics import TESTED, MethodStatistics, tests_in
from avalanche_ext.report.tradeoff import n_dominated, settings_points, tradeoff_points
from avalanche_ext.report.versions import mixed_versions
from avalanche_ext.results.experiment import ExperimentResults

_SCREEN = 40
"""Lines of a table with its tests; with more methods, tests are columns or left out."""


def text_table(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> str:
    """Return the whole report as text: summary, tests, published numbers, failed and missing runs.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.

    Returns:
        Lines of at most about 120 characters, with a line end after the last.

    Raises:
        ResultsError: If `published` or a claim names an unknown metric or method.
    """
    shown, rows = with_runs((results, statistics))
    tested = _tested_below(rows)
    columns = columns_of(shown, rows, spread=TESTED, has_tests="ACC" not in tested)
    notes = [
        *notes_of(results, statistics, columns),
        *_notes_on_tests(results, statistics, tested),
    ]
    sections = [
        [heading(results)],
        _summary(rows, columns),
        wrapped(" ".join(notes)),
        *(_comparison(results, statistics, metric) for metric in tested),
        *choices_section(results),
        *claims_section(results),
        *_domination(results, statistics),
        *published_section(results, statistics),
        *mixed_versions(results),
        *absent_sections(results),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _summary(statistics: Sequence[MethodStatistics], columns: Sequence[Column]) -> list[str]:
    names = ["method", *(row.name for row in statistics)]
    texts = []
    for column in columns:
        cells = [column.title, *column.cells]
        texts.append(cells if any("±" in cell for cell in cells) else to_the_right(cells))
    return aligned([[*row] for row in zip(names, *texts, strict=True)])


def _tested_below(statistics: Sequence[MethodStatistics]) -> list[str]:
    """Return the metrics whose tests against the baseline get separate tables, if they fit."""
    defined = [metric for metric in TESTED if tests_in(metric, statistics)]
    most = _SCREEN // (len(statistics) + 3) - 1
    return defined[: max(most, 0)]


def _notes_on_tests(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], tested: Sequence[str]
) -> Iterator[str]:
    tests = tests_in("ACC", statistics)
    shown = [test for metric in tested for test in tests_in(metric, statistics).values()]
    shown += [each.test for each in claim_tests(results) if each.test.n_pairs]
    if any(test.interval for test in shown):
        yield "95 % interval: bootstrap over seeds, for the mean difference."
    if any(test.effect is not None for test in shown):
        yield "d: Cohen's d of the paired differences."
    if shown:
        yield "wins: seeds with the higher value."
    if tests and "ACC" not in tested:
        yield "All test results: summary.csv, or --format html."
        yield from caution(tests)


def _comparison(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], metric: str
) -> list[str]:
    tests = tests_in(metric, statistics)
    apart = [
        row.name
        for row in statistics
        if row.tests and row.metrics[metric] and row.name not in tests
    ]
    return [
        f"{metric} against {results.baseline}, paired by seed; two-sided tests; Holm p: corrected "
        "for the tests in this table",
        *comparison_lines("method", tests),
        *wrapped(
            f"No seed in common with {results.baseline}: {', '.join(apart)}." if apart else ""
        ),
    ]


def _domination(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[list[str]]:
    """Yield a table for each parameter that at least two methods are swept over."""
    for parameter, swept in settings_points(results, tradeoff_points(statistics)).items():
        if len(swept) < 2:
            continue
        rows = [[parameter, *swept]]
        for name, ours in swept.items():
            counts = {
                other: f"{n_dominated(ours, theirs)} of {len(theirs)}"
                for other, theirs in swept.items()
                if other != name
            }
            rows.append([name, *(counts.get(other, NONE) for other in swept)])
        yield [
            "Settings of the column's method that are Pareto-dominated by one of the row's method "
            "(learning accuracy and BWT)",
            *aligned(rows),
        ]
