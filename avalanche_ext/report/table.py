"""An experiment's statistics as a text table for people and a CSV file for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain

from avalanche_ext.report.claims import claims_section
from avalanche_ext.report.layout import NONE, aligned, count, number, p_value, plus_minus
from avalanche_ext.report.statistics import METRICS, TESTED, Estimate, MethodStatistics
from avalanche_ext.report.tradeoff import n_dominated, settings_points, tradeoff_points
from avalanche_ext.report.versions import mixed_versions
from avalanche_ext.results.experiment import ExperimentResults, MethodResults
from avalanche_ext.results.record import ResultsError

SHOWN = ("ACC", "BWT", "FWT", "forgetting", "intransigence")
"""The metrics of the text table; the CSV file has all of METRICS."""

_SIGNED = {"BWT", "FWT"}
_NOTES = (
    "Accuracies are fractions; ± is the sample standard deviation over seeds; seconds are those of "
    "training alone.",
    "BWT, FWT: Lopez-Paz and Ranzato (2017). Forgetting, intransigence: Chaudhry et al. (2018), "
    "intransigence",
    "against the best of these methods. ACC, FWT, BWT: higher is better; the others: lower.",
)

_IID = "Methods trained iid, on all experiences in random order, have only the final accuracies."
_OVER_INSTANCES = (
    "instance_accuracy: over all test samples, however many an experience has (Jin et al., 2021)."
)


def text_table(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> str:
    """The whole report as text: summary, tests, published numbers, failed and missing runs.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.

    Returns:
        Lines of at most some 110 characters, with a line end after the last.

    Raises:
        ResultsError: If `published` or a claim names an unknown metric or method.
    """
    sections = [
        [_heading(results)],
        aligned(_summary_rows(results, statistics)),
        [*_NOTES, *_further_notes(results)],
        *chain.from_iterable(_comparison(results, statistics, metric) for metric in TESTED),
        *claims_section(results),
        *_domination(results, statistics),
        *_published(results, statistics),
        *mixed_versions(results),
        *_absent(results),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def csv_table(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> str:
    """The statistics at full precision as CSV, one row a method; undefined numbers are empty."""
    file = io.StringIO()
    rows = [_csv_row(*pair) for pair in zip(results.methods, statistics, strict=True)]
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_row(
    method: MethodResults, statistics: MethodStatistics
) -> dict[str, str | int | float | None]:
    row: dict[str, str | int | float | None] = {
        "method": statistics.name,
        "finished": len(method.cells),
        "failed": len(method.failures),
        "missing": len(method.missing),
    }
    estimates = dict(statistics.metrics)
    estimates |= {f"seconds_{phase}": value for phase, value in statistics.seconds.items()}
    tests = {metric: statistics.tests.get(metric) for metric in TESTED}
    for metric, test in tests.items():
        estimates[f"{metric}_difference"] = test.difference if test else None
    for name, value in estimates.items():
        row[f"{name}_mean"] = value.mean if value else None
        row[f"{name}_std"] = value.std if value else None
    for metric, test in tests.items():
        prefix = "" if metric == "ACC" else f"{metric}_"
        row[f"{prefix}pairs"] = test.difference.n if test and test.difference else None
        row[f"{prefix}p_t_test"] = test.t_test if test else None
        row[f"{prefix}p_wilcoxon"] = test.wilcoxon if test else None
    return row


def _heading(results: ExperimentResults) -> str:
    finished = sum(len(method.cells) for method in results.methods)
    return (
        f"{results.name}: {count(len(results.methods), 'method')} x "
        f"{count(len(results.seeds), 'seed')}, {finished} of {results.n_cells} runs finished"
    )


def _further_notes(results: ExperimentResults) -> Iterator[str]:
    if any(method.is_iid for method in results.methods):
        yield _IID
    named = {*(results.published or ()), *(claim.metric for claim in results.claims)}
    if "instance_accuracy" in named:
        yield _OVER_INSTANCES


def _summary_rows(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[list[str]]:
    yield ["method", "runs", *SHOWN, "seconds"]
    for method, row in zip(results.methods, statistics, strict=True):
        runs = len(method.cells)
        total = len(results.seeds)
        yield [
            row.name,
            str(runs) if runs == total else f"{runs}/{total}",
            *(plus_minus(row.metrics[name], signed=name in _SIGNED) for name in SHOWN),
            plus_minus(row.seconds["training"], decimals=2),
        ]


def _comparison(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], metric: str
) -> Iterator[list[str]]:
    tested = [(row.name, row.tests[metric]) for row in statistics if row.tests]
    if not tested or not any(row.metrics[metric] for row in statistics):
        return
    wilcoxon = any(test.wilcoxon is not None for _, test in tested)
    rows = [["method", "pairs", "difference", "t-test p", *["Wilcoxon p"] * wilcoxon]]
    for name, test in tested:
        pairs = str(test.difference.n) if test.difference else "0"
        difference = plus_minus(test.difference, signed=True)
        p_values = [p_value(test.t_test), *[p_value(test.wilcoxon)] * wilcoxon]
        rows.append([name, pairs, difference, *p_values])
    yield [
        f"{metric} against {results.baseline}, paired by seed (two-sided tests, not corrected for "
        "their number)",
        *aligned(rows),
    ]


def _domination(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[list[str]]:
    """A table for each parameter that at least two methods are swept over."""
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
            "Column's settings dominated by some setting of the row (learning accuracy and BWT: "
            "neither worse, one better)",
            *aligned(rows),
        ]


def _published(
    results: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> Iterator[list[str]]:
    if not results.published:
        return
    ours = {row.name: row.metrics for row in statistics}
    rows = [["metric", "method", "ours", "published", "difference", "in published std"]]
    for metric, methods in results.published.items():
        if metric in ("reference", "rho_correlation"):
            continue
        for name, numbers in methods.items():
            if metric not in METRICS or name not in ours:
                raise ResultsError(f"published.{metric}.{name}: no such metric or method here")
            theirs = Estimate(numbers["mean"], numbers.get("std"), 0)
            rows.append([metric, name, *_beside(ours[name][metric], theirs)])
    if len(rows) > 1:
        yield [f"Beside {results.published['reference']}", *aligned(rows)]


def _beside(ours: Estimate | None, theirs: Estimate) -> list[str]:
    cells = [plus_minus(ours), plus_minus(theirs)]
    if ours is None:
        return [*cells, NONE, NONE]
    difference = ours.mean - theirs.mean
    in_std = number(difference / theirs.std, 1, signed=True) if theirs.std else NONE
    return [*cells, number(difference, signed=True), in_std]


def _absent(results: ExperimentResults) -> Iterator[list[str]]:
    failed = [
        f"  {method.name}, seed {seed}: {error}"
        for method in results.methods
        for seed, error in method.failures.items()
    ]
    missing = [
        f"  {method.name}, {'seed' if len(method.missing) == 1 else 'seeds'} "
        + ", ".join(map(str, method.missing))
        for method in results.methods
        if method.missing
    ]
    if failed:
        yield [f"{count(len(failed), 'run')} failed:", *failed]
    if missing:
        n_missing = sum(len(method.missing) for method in results.methods)
        yield [f"{count(n_missing, 'run')} not there yet (run the experiment again):", *missing]
