"""The tables of a page, which can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from avalanche_ext.report.choices import choice_columns, choice_notes, choices_title
from avalanche_ext.report.claims import claim_tests, claim_text
from avalanche_ext.report.comparisons import comparison_columns, on_tests
from avalanche_ext.report.joint import joint_sheets
from avalanche_ext.report.layout import NONE, number
from avalanche_ext.report.paired import PairedTest
from avalanche_ext.report.sheet import Column, Sheet
from avalanche_ext.report.sheets import Reported, sheet_of
from avalanche_ext.report.statistics import METRICS, TESTED, tests_in
from avalanche_ext.report.style import COLOURS, looks
from avalanche_ext.results.experiment import ExperimentResults

_ON_TESTS = {
    "difference": "mean ± standard deviation over seeds",
    "95 % interval": "bootstrap over seeds, for the mean difference",
    "d": "Cohen's d of the paired differences: their mean over their standard deviation",
    "wins": "seeds for which the method has the higher value; a tie counts half",
    "t-test p": "p-value of the paired t-test",
    "Wilcoxon p": "p-value of Wilcoxon's signed-rank test",
    "Holm p": "the p-value to its left, Holm-corrected for the tests in this table",
}


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        name: A name that no other table of the experiment has.
        title: Its title.
        columns: The columns; the first contains the rows' names.
        colours: For each row the number of its colour in pictures; () for no colours.
        notes: Sentences below it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    colours: Sequence[int] = ()
    notes: Sequence[str] = ()

    @property
    def definitions(self) -> dict[str, str]:
        """Return the meaning of columns by title, unless the notes state it."""
        return {
            column.title: column.note
            for column in self.columns
            if column.note and column.note not in self.notes
        }

    @property
    def rows(self) -> Iterator[list[tuple[Column, str, bool, int | None]]]:
        """Yield the cells of each row: column, text, whether it is the best, and colour if any."""
        n_rows = range(len(self.columns[0].cells))
        for place, colour in zip_longest(n_rows, self.colours):
            yield [
                (column, column.cells[place], place in column.best, colour)
                for column in self.columns
            ]


def methods_table(experiment: Reported) -> Table:
    """Return a table with one row per method: metrics, tests, published numbers and costs.

    Raises:
        ResultsError: If `published` names an unknown metric or method.
    """
    sheet = sheet_of(experiment)
    look = looks(experiment[0])
    colours = [COLOURS.index(look[name]["color"]) for name in sheet.methods]
    title = "Methods: mean ± standard deviation over seeds"
    return Table("methods", title, _columns(sheet), colours, _notes(sheet))


def joint_tables(experiments: Sequence[Reported]) -> list[Table]:
    """The tables of several experiments side by side."""
    return [
        Table(f"joint-{place}", sheet.title, _columns(sheet), notes=_notes(sheet))
        for place, sheet in enumerate(joint_sheets(experiments))
    ]


def _notes(sheet: Sheet) -> list[str]:
    return [*filter(None, [*sheet.notes, sheet.on_best])]


def _columns(sheet: Sheet) -> list[Column]:
    return [Column("method", sheet.methods, is_number=False), *sheet.columns]


def tests_tables(experiment: Reported) -> list[Table]:
    """The tests of methods against the baseline, and those of claims.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    results, statistics = experiment
    tables = []
    for metric in TESTED:
        tests = tests_in(metric, statistics)
        if tests:
            title = f"{metric} against {results.baseline}, paired by seed; two-sided tests"
            tables.append(_tests_table(f"against-{metric}", title, "method", tests))
    if results.claims:
        claims = {claim_text(each.claim): each.test for each in claim_tests(results)}
        title = "Claims: one-sided tests in ACC or the named metric, paired by seed"
        tables.append(_tests_table("claims", title, "claim", claims))
    return tables


def choices_table(results: ExperimentResults) -> Table | None:
    """Return the table of chosen hyper-parameters; None if nothing was searched."""
    columns = choice_columns(results)
    if not columns:
        return None
    return Table("choices", choices_title(results), columns, notes=choice_notes(results))


def _tests_table(name: str, title: str, first: str, tests: Mapping[str, PairedTest]) -> Table:
    columns = [
        Column(each, cells, note=_ON_TESTS.get(each, ""))
        for each, cells in comparison_columns(tests)
    ]
    named = Column(first, [*tests], is_number=False)
    return Table(name, title, [named, *columns], notes=on_tests(tests))


def runs_table(results: ExperimentResults) -> Table:
    """Return a table with one row per run, finished or not."""
    metrics = results.run_metrics()
    shown = [
        name
        for name in METRICS
        if any(run[name] is not None for runs in metrics.values() for run in runs.values())
    ]
    names, seeds, states = [], [], []
    numbers: dict[str, list[str]] = {title: [] for title in (*shown, "seconds")}
    for method in results.methods:
        for seed in results.seeds:
            names.append(method.name)
            seeds.append(str(seed))
            states.append(_state(seed in method.cells, method.failures.get(seed)))
            run = metrics[method.name].get(seed, {})
            for name in shown:
                value = run.get(name)
                numbers[name].append(NONE if value is None else number(value))
            cell = method.cells.get(seed)
            numbers["seconds"].append(number(cell.seconds["training"], 2) if cell else NONE)
    columns = [
        Column("method", names, is_number=False),
        Column("seed", seeds),
        Column("state", states, is_number=False),
        *(Column(title.replace("_", " "), cells) for title, cells in numbers.items()),
    ]
    return Table("runs", "Individual runs", columns)


def _state(is_finished: bool, error: str | None) -> str:
    if is_finished:
        return "finished"
    return "missing" if error is None else f"failed: {error}"
