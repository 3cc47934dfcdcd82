"""The numbers of each method: estimates over seeds, and tests against the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avalanche_ext.metrics.curves import CURVE_METRICS
from avalanche_ext.report.estimates import Estimate, estimate
from avalanche_ext.report.paired import PairedTest, corrected, paired_test
from avalanche_ext.results.cell import MEMORY, PHASES
from avalanche_ext.results.experiment import ExperimentResults, MethodResults, RunMetrics

METRICS = (
    "ACC",
    "average_incremental_accuracy",
    "instance_accuracy",
    "BWT",
    "FWT",
    "forgetting",
    "intransigence",
    "learning_accuracy",
    *CURVE_METRICS,
)
"""The metrics of a method, by the names used in result files, in the order tables show them."""

LOWER_IS_BETTER = ("forgetting", "intransigence", "stability_gap")
"""The metrics for which lower values are better."""

TESTED = ("ACC", "BWT")
"""The metrics in which methods are tested against the baseline."""


@dataclass(frozen=True)
class MethodStatistics:
    """The numbers of one method for the tables; an estimate is None if no run defines it.

    Attributes:
        name: The method's name.
        metrics: Its estimates, one for each of METRICS.
        seconds: Seconds by phase, one for each of PHASES.
        memory: Bytes, one for each of MEMORY.
        tests: Its tests against the baseline, one for each of TESTED; empty for the baseline
            itself, and if there is none.
    """

    name: str
    metrics: Mapping[str, Estimate | None]
    seconds: Mapping[str, Estimate | None]
    memory: Mapping[str, Estimate | None]
    tests: Mapping[str, PairedTest]


def method_statistics(results: ExperimentResults) -> list[MethodStatistics]:
    """Return each method's estimates over its finished runs, and its tests against the baseline."""
    runs = results.run_metrics()
    tests = {metric: _against(results.baseline, defined(runs, metric)) for metric in TESTED}
    return [
        MethodStatistics(
            name=method.name,
            metrics=_metrics([*runs[method.name].values()]),
            seconds=_seconds(method),
            memory=_memory(method),
            tests={
                metric: tests[metric][method.name]
                for metric in TESTED
                if method.name in tests[metric]
            },
        )
        for method in results.methods
    ]


def _against(
    baseline: str | None, values: Mapping[str, Mapping[int, float]]
) -> dict[str, PairedTest]:
    """The other methods' tests against the baseline, corrected for their number; {} without it."""
    if baseline is None or baseline not in values:
        return {}
    return corrected(
        {
            name: paired_test(*pairs(each, values[baseline]))
            for name, each in values.items()
            if name != baseline
        }
    )


def _metrics(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Estimate | None]:
    return {
        name: estimate([value for row in rows if (value := row[name]) is not None])
        for name in METRICS
    }


def _seconds(method: MethodResults) -> dict[str, Estimate | None]:
    cells = method.cells.values()
    return {phase: estimate([cell.seconds[phase] for cell in cells]) for phase in PHASES}


def _memory(method: MethodResults) -> dict[str, Estimate | None]:
    cells = method.cells.values()
    return {
        kind: estimate([cell.memory[kind] for cell in cells if kind in cell.memory])
        for kind in MEMORY
    }


def tests_in(metric: str, statistics: Sequence[MethodStatistics]) -> dict[str, PairedTest]:
    """The tests in one of TESTED by method, of the methods that share a seed with the baseline."""
    tests = {row.name: row.tests[metric] for row in statistics if metric in row.tests}
    return {name: test for name, test in tests.items() if test.difference}


def over_same_seeds(results: ExperimentResults) -> frozenset[str]:
    """Return the methods that compete for the best value: those with the same finished seeds.

    These are the seeds that most methods share; of several such sets, the largest. If all methods
    have different seeds, none competes. Methods trained iid never do.
    """
    seeds = {
        method.name: frozenset(method.cells) for method in results.finished if not method.is_iid
    }
    counts = Counter(seeds.values())
    most = max(counts, key=lambda each: (counts[each], len(each)), default=frozenset())
    if counts[most] < min(2, len(seeds)):
        return frozenset()
    return frozenset(name for name, each in seeds.items() if each == most)


def defined(runs: RunMetrics, metric: str) -> dict[str, dict[int, float]]:
    """Return one metric's defined values by method and seed.

    Args:
        runs: `ExperimentResults.run_metrics`.
        metric: One of METRICS.
    """
    return {
        name: {seed: value for seed, row in rows.items() if (value := row[metric]) is not None}
        for name, rows in runs.items()
    }


def pairs(
    first: Mapping[int, float], second: Mapping[int, float]
) -> tuple[list[float], list[float]]:
    """The values of two methods, by seed, for the seeds that both have."""
    both = [seed for seed in first if seed in second]
    return [first[seed] for seed in both], [second[seed] for seed in both]
