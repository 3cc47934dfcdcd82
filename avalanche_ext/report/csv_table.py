"""The numbers of experiments as CSV, for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.statistics import TESTED, MethodStatistics
from avalanche_ext.results.experiment import ExperimentResults, MethodResults

Row = dict[str, str | int | float | None]


def csv_table(
    experiments: Sequence[tuple[ExperimentResults, Sequence[MethodStatistics]]],
) -> str:
    """Return the numbers at full precision, one row per experiment and method; undefined: empty.

    Args:
        experiments: Each experiment with its `method_statistics`.
    """
    rows = [row for each in experiments for row in _rows(*each)]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _rows(results: ExperimentResults, statistics: Sequence[MethodStatistics]) -> Iterator[Row]:
    for method, row in zip(results.methods, statistics, strict=True):
        yield {
            "experiment": results.name,
            "split": results.split,
            **_state(method),
            **_estimates(row),
            **_tests(row),
        }


def _state(method: MethodResults) -> Row:
    return {
        "method": method.name,
        "finished": len(method.cells),
        "failed": len(method.failures),
        "missing": len(method.missing),
    }


def _estimates(statistics: MethodStatistics) -> Row:
    estimates: dict[str, Estimate | None] = {
        **statistics.metrics,
        **{f"seconds_{phase}": value for phase, value in statistics.seconds.items()},
        **{f"memory_{kind}": value for kind, value in statistics.memory.items()},
    }
    row: Row = {}
    for name, value in estimates.items():
        row[f"{name}_mean"] = value.mean if value else None
        row[f"{name}_std"] = value.std if value else None
    return row


def _tests(statistics: MethodStatistics) -> Row:
    row: Row = {}
    for metric in TESTED:
        test = statistics.tests.get(metric)
        difference = test.difference if test else None
        low, high = (test and test.interval) or (None, None)
        row |= {
            f"{metric}_difference_mean": difference.mean if difference else None,
            f"{metric}_difference_std": difference.std if difference else None,
            f"{metric}_difference_low": low,
            f"{metric}_difference_high": high,
        }
        prefix = "" if metric == "ACC" else f"{metric}_"
        row |= {
            f"{prefix}pairs": test.n_pairs if test and difference else None,
            f"{prefix}effect": test.effect if test else None,
            f"{prefix}wins": test.wins if test and difference else None,
            f"{prefix}p_t_test": test.t_test if test else None,
            f"{prefix}p_t_test_holm": test.t_test_holm if test else None,
            f"{prefix}p_wilcoxon": test.wilcoxon if test else None,
            f"{prefix}p_wilcoxon_holm": test.wilcoxon_holm if test else None,
        }
    return row
