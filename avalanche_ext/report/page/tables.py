"""The tables of a page: cells with a text to read and a value to sort by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from avalanche_ext.report.columns import SIGNED, metric_column, metrics_shown
from avalanche_ext.report.comparisons import interval_text
from avalanche_ext.report.figures import COLOURS
from avalanche_ext.report.layout import NONE, number, p_value, plus_minus, short
from avalanche_ext.report.paired import CONFIDENCE, PairedTest
from avalanche_ext.report.statistics import METRICS, MethodStatistics, run_metrics
from avalanche_ext.results.experiment import ExperimentResults

_MEANING = {
    "ACC": "mean accuracy on all experiences after the last; higher is better",
    "average_incremental_accuracy": "mean over experiences of the accuracy on those seen by then",
    "instance_accuracy": "accuracy over all test samples after the last experience",
    "BWT": "backward transfer: how accuracies have changed since each experience was learned; "
    "higher is better",
    "FWT": "forward transfer: accuracy on the next experience beside that of the untrained model; "
    "higher is better",
    "forgetting": "how far accuracies lie below the best they have been; lower is better",
    "intransigence": "how far accuracies just after learning lie below the best of these methods; "
    "lower is better",
    "learning_accuracy": "mean accuracy on each experience just after learning it",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it shows.
        value: What it is sorted by; None for an undefined number, which is sorted last.
        is_best: Whether it is the best of its column.
        colour: The place of the method's colour in pictures; None for no colour.
    """

    text: str
    value: float | str | None
    is_best: bool = False
    colour: int | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, what it means, and whether it holds numbers."""

    heading: str
    meaning: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and filtered; `caption` says what it shows."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def methods_table(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Table:
    """One row a method: metrics, with the difference from the baseline, and what it costs."""
    found = [*_names(results), *_runs(results)]
    for metric in metrics_shown(statistics):
        found += _metric(metric, results, statistics)
        found += _tests(metric, results, statistics)
    found += _costs(statistics)
    rows = [*zip(*(cells for _, cells in found), strict=True)]
    caption = "Methods: mean ± standard deviation over seeds; bold: best"
    return Table("methods", caption, [column for column, _ in found], rows)


_Columns = list[tuple[Column, list[Cell]]]


def _names(results: ExperimentResults) -> _Columns:
    cells = [
        Cell(method.name, method.name, colour=place % len(COLOURS))
        for place, method in enumerate(results.methods)
    ]
    return [(Column("method", is_number=False), cells)]


def _runs(results: ExperimentResults) -> _Columns:
    n = len(results.seeds)
    finished = [len(method.cells) for method in results.methods]
    cells = [Cell(str(each) if each == n else f"{each} of {n}", each) for each in finished]
    return [(Column("runs", "finished runs"), cells)]


def _metric(
    metric: str, results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> _Columns:
    column = metric_column(metric, results, statistics)
    cells = [
        Cell(text, value and value.mean, place in column.best)
        for place, text in enumerate(column.cells)
        for value in [statistics[place].metrics[metric]]
    ]
    return [(Column(column.title, _MEANING.get(metric, "")), cells)]


def _tests(
    metric: str, results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> _Columns:
    """The difference from the baseline, its interval and p-value, where a metric is tested."""
    tests = [each.tests.get(metric) for each in statistics]
    if not any(tests):
        return []
    cells = [_test(test) for test in tests]
    columns = [
        Column(f"− {results.baseline}", f"mean difference in {metric} over common seeds ± std"),
        Column(
            f"{CONFIDENCE:.0%} interval",
            f"of the mean difference in {metric}, by the bootstrap; sorted by its lower end",
        ),
        Column("p", f"of the t-test in {metric}, corrected by Holm for all tests of this table"),
    ]
    return [
        (column, [*each]) for column, each in zip(columns, zip(*cells, strict=True), strict=True)
    ]


def _costs(statistics: Sequence[MethodStatistics]) -> _Columns:
    costs = {
        "seconds": (
            "of training, of one run",
            [each.seconds["training"] for each in statistics],
            1,
        ),
        "peak MB": (
            "the most memory of the process while it trains, of tensors on a GPU",
            [each.memory["peak"] for each in statistics],
            10**6,
        ),
        "kept MB": (
            "what the method's plugins keep for the next experience",
            [each.memory["kept"] for each in statistics],
            10**6,
        ),
    }
    return [
        (
            Column(title, meaning),
            [
                Cell(short(each.mean / unit), each.mean) if each else Cell(NONE, None)
                for each in values
            ],
        )
        for title, (meaning, values, unit) in costs.items()
        if any(each and each.mean for each in values)
    ]


def runs_table(results: ExperimentResults) -> Table:
    """One row a run, finished or not."""
    values = run_metrics(results)
    metrics = [
        name
        for name in METRICS
        if any(run[name] is not None for runs in values.values() for run in runs.values())
    ]
    columns = [
        Column("method", is_number=False),
        Column("seed"),
        Column("state", is_number=False),
        *(Column(name.replace("_", " "), _MEANING.get(name, "")) for name in metrics),
        Column("seconds", "seconds of training"),
    ]
    return Table("runs", "Single runs", columns, [*_runs_rows(results, values, metrics)])


def _runs_rows(
    results: ExperimentResults,
    values: Mapping[str, Mapping[int, Mapping[str, float | None]]],
    metrics: Sequence[str],
) -> Iterator[list[Cell]]:
    blank = [Cell("", None) for _ in (*metrics, "seconds")]
    for method in results.methods:
        for seed in results.seeds:
            first = [Cell(method.name, method.name), Cell(str(seed), seed)]
            if seed in method.cells:
                run = values[method.name][seed]
                seconds = method.cells[seed].seconds["training"]
                yield [
                    *first,
                    Cell("finished", "finished"),
                    *(_number(run[name], name in SIGNED) for name in metrics),
                    _number(seconds, decimals=2),
                ]
            elif seed in method.failures:
                yield [*first, Cell(f"failed: {method.failures[seed]}", "failed"), *blank]
            else:
                yield [*first, Cell("not there yet", "not there yet"), *blank]


def compared_table(
    experiments: Sequence[tuple[ExperimentResults, Sequence[MethodStatistics]]],
) -> Table:
    """ACC of each method in each experiment.

    Args:
        experiments: The experiments, each with its `method_statistics`.
    """
    columns = [Column("method", is_number=False)]
    cells: list[dict[str, Cell]] = []
    for results, statistics in experiments:
        ((column, found),) = _metric("ACC", results, statistics)
        columns.append(Column(results.name, column.meaning))
        names = [method.name for method in results.methods]
        cells.append(dict(zip(names, found, strict=True)))
    methods = dict.fromkeys(name for each in cells for name in each)
    rows = [
        [Cell(name, name), *(each.get(name, Cell("", None)) for each in cells)] for name in methods
    ]
    return Table("compared", "ACC in each experiment; bold: best", columns, rows)


def _number(value: float | None, signed: bool = False, decimals: int = 3) -> Cell:
    return Cell(NONE if value is None else number(value, decimals, signed), value)


def _test(test: PairedTest | None) -> list[Cell]:
    if test is None or test.difference is None:
        return [Cell("", None)] * 3
    low = test.interval[0] if test.interval else None
    p = test.t_test_holm
    return [
        Cell(plus_minus(test.difference, signed=True), test.difference.mean),
        Cell(interval_text(test.interval), low),
        Cell(p_value(p), p),
    ]
