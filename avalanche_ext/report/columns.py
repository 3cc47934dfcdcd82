"""The informative columns of an experiment's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avalanche_ext.metrics.curves import CURVE_METRICS
from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import NONE, number, p_value, plus_minus, short
from avalanche_ext.report.notes import said_in_notes
from avalanche_ext.report.sheet import Column
from avalanche_ext.report.statistics import LOWER_IS_BETTER, MethodStatistics, over_same_seeds
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count

SIGNED = ("BWT", "FWT")
"""The metrics that may be negative or positive."""

_TITLES = {"learning_accuracy": "learned", "average_incremental_accuracy": "AIA"}
_NOTES = {
    "BWT": "BWT, FWT: as in Lopez-Paz and Ranzato (2017).",
    "forgetting": "forgetting: as in Chaudhry et al. (2018).",
    "learning_accuracy": "learned: accuracy on each experience right after training on it.",
    "average_incremental_accuracy": "AIA: average incremental accuracy.",
    "AAA": "AAA: average anytime accuracy, the mean accuracy on the experiences seen so far, "
    "averaged over all evaluations during training (Caccia et al., 2022).",
    "WC_ACC": "WC_ACC: worst-case accuracy, the mean of min_ACC (weight k - 1) and the final "
    "accuracy on the last of the k experiences (weight 1; De Lange et al., 2023).",
    "min_ACC": "min_ACC: the lowest accuracy on each earlier experience since it was learned, "
    "averaged over experiences (De Lange et al., 2023).",
    "stability_gap": "stability_gap: how far the accuracy on earlier experiences drops during an "
    "experience, below its values at the start and at the end.",
    "LCA": "LCA: learning curve area, the mean accuracy on an experience over its first "
    "mini-batches (Chaudhry et al., 2019).",
}
_SHOWN = (
    "ACC",
    "BWT",
    "FWT",
    "forgetting",
    "learning_accuracy",
    "average_incremental_accuracy",
    *CURVE_METRICS,
)
_MEGABYTE = 10**6


def columns_of(
    results: ExperimentResults,
    statistics: Sequence[MethodStatistics],
    *,
    spread: Sequence[str] = _SHOWN,
    has_tests: bool = True,
    has_costs: bool = True,
) -> list[Column]:
    """Return the columns of an experiment's table, one row per method.

    Metrics that are undefined for all methods, or that a note fully describes, have no column.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.
        spread: The metrics shown with their standard deviation.
        has_tests: Whether the tests of ACC against the baseline are among the columns.
        has_costs: Whether seconds and memory are among the columns.
    """
    said = said_in_notes(results, statistics)
    columns = [*_runs(results)]
    for metric in _SHOWN:
        if metric not in said and any(row.metrics[metric] for row in statistics):
            columns.append(metric_column(metric, results, statistics, metric in spread))
        if metric == "ACC" and has_tests:
            columns += _tests(results, statistics)
    return [*columns, *(_costs(statistics) if has_costs else ())]


def metric_column(
    metric: str,
    results: ExperimentResults,
    statistics: Sequence[MethodStatistics],
    has_spread: bool = True,
) -> Column:
    """Return the column of one of `statistics.METRICS`.

    The best cells are those with the best mean, as printed, among `over_same_seeds`.

    Args:
        metric: The metric.
        results: The experiment.
        statistics: `method_statistics` of the same results.
        has_spread: Whether standard deviations are shown.
    """
    signed = metric in SIGNED
    values = [row.metrics[metric] for row in statistics]
    cells = [
        plus_minus(value, signed=signed)
        if has_spread or value is None
        else number(value.mean, signed=signed)
        for value in values
    ]
    compared = over_same_seeds(results)
    competing = {
        place: round(row_value.mean, 3)
        for place, row in enumerate(statistics)
        if row.name in compared and (row_value := row.metrics[metric])
    }
    choose = min if metric in LOWER_IS_BETTER else max
    best = choose(competing.values(), default=None)
    places = [place for place, value in competing.items() if value == best]
    is_telling = len({*competing.values()}) > 1
    return Column(
        title=metric_title(metric),
        cells=cells,
        best=frozenset(places if is_telling else ()),
        note=_NOTES.get(metric, ""),
    )


def metric_title(metric: str) -> str:
    """The title of a metric's column."""
    return _TITLES.get(metric, metric)


def _runs(results: ExperimentResults) -> Iterator[Column]:
    """Yield the column with the number of finished runs, if some are not finished."""
    total = len(results.seeds)
    finished = [len(method.cells) for method in results.methods]
    if any(n < total for n in finished):
        yield Column("runs", [str(n) if n == total else f"{n}/{total}" for n in finished])


def _tests(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Iterator[Column]:
    tests = [row.tests.get("ACC") for row in statistics]
    n_tests = sum(test is not None and test.t_test is not None for test in tests)
    if not any(test and test.n_pairs for test in tests):
        return
    differences = [plus_minus_mean(test.difference) if test else "" for test in tests]
    yield Column(
        f"vs {results.baseline}",
        differences,
        note=f"vs {results.baseline}: difference in ACC, paired by seed.",
    )
    yield Column(
        "p",
        [p_value(test.t_test_holm) if test else "" for test in tests],
        note=f"p: two-sided paired t-test, Holm-corrected for {count(n_tests, 'test')}.",
    )


def plus_minus_mean(value: Estimate | None) -> str:
    """A mean with its sign, or NONE."""
    return number(value.mean, signed=True) if value else NONE


def _costs(statistics: Sequence[MethodStatistics]) -> Iterator[Column]:
    costs: Sequence[tuple[str, str, Sequence[Estimate | None], int]] = (
        (
            "seconds",
            "seconds: training time, without evaluation.",
            [row.seconds["training"] for row in statistics],
            1,
        ),
        (
            "peak MB",
            "peak MB: peak memory of the process during training (on a GPU, of its tensors).",
            [row.memory["peak"] for row in statistics],
            _MEGABYTE,
        ),
        (
            "kept MB",
            "kept MB: memory that the method keeps between experiences, besides the model.",
            [row.memory["kept"] for row in statistics],
            _MEGABYTE,
        ),
    )
    for title, note, values, unit in costs:
        if any(value and value.mean for value in values):
            cells = [short(value.mean / unit) if value else NONE for value in values]
            yield Column(title, cells, note=note)
