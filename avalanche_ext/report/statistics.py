"""Means, standard deviations and paired tests over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from avalanche_ext.metrics.matrix import average_intransigence
from avalanche_ext.results.cell import PHASES, Floats
from avalanche_ext.results.experiment import ExperimentResults, MethodResults

METRICS = (
    "ACC",
    "instance_accuracy",
    "BWT",
    "FWT",
    "forgetting",
    "intransigence",
    "learning_accuracy",
)
"""The metrics of a method, by the names used in result files, in the order tables show them."""

TESTED = ("ACC", "BWT")
"""The metrics in which methods are tested against the baseline."""

FEWEST_FOR_WILCOXON = 6
"""With fewer pairs Wilcoxon's two-sided test cannot reach p < 0.05 (5 pairs: 2 / 2^5 = 0.0625)."""

# Rounding would give equal differences a variance in the t-test, and an order in Wilcoxon's.
DECIMALS = 12
"""Accuracies are ratios of counts: beyond these decimals they differ by rounding only."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` values and their sample standard deviation (None for a single value)."""

    mean: float
    std: float | None
    n: int

    @property
    def standard_error(self) -> float | None:
        """The standard deviation of the mean, std / √n."""
        return None if self.std is None else self.std / self.n**0.5


@dataclass(frozen=True)
class PairedTest:
    """A method's values of one metric against the baseline's, over the seeds that both finished.

    Attributes:
        difference: Mean and standard deviation of the paired differences; None without pairs.
        t_test: Two-sided p-value of the paired t-test; None where it is undefined.
        wilcoxon: Two-sided p-value of Wilcoxon's signed-rank test; None below 6 pairs.
    """

    difference: Estimate | None
    t_test: float | None
    wilcoxon: float | None


@dataclass(frozen=True)
class MethodStatistics:
    """The numbers of one method for the tables; an estimate is None where no run defines it.

    Attributes:
        name: The method's name.
        metrics: Its estimates, one for each of METRICS.
        seconds: Seconds by phase, one for each of PHASES.
        tests: Its tests against the baseline, one for each of TESTED; empty for the baseline
            itself, and where there is none.
    """

    name: str
    metrics: Mapping[str, Estimate | None]
    seconds: Mapping[str, Estimate | None]
    tests: Mapping[str, PairedTest]


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and sample standard deviation (n - 1 in the denominator); None for no values."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), std, len(values))


def paired_test(ours: Sequence[float], baseline: Sequence[float]) -> PairedTest:
    """Test whether paired values differ in their mean (t-test) or location (Wilcoxon).

    Where all differences are 0, p is 1. Where all are the same other number, there is no variance
    to compare it with, and no p.

    Args:
        ours: A method's values, one per seed, (n,).
        baseline: The baseline's values for the same seeds, (n,).

    Raises:
        ValueError: If the two differ in length.
    """
    differences = paired_differences(ours, baseline)
    return PairedTest(
        difference=estimate(differences.tolist()),
        t_test=t_test(differences),
        wilcoxon=_wilcoxon(differences),
    )


def paired_differences(ours: Sequence[float], theirs: Sequence[float]) -> Floats:
    """Ours minus theirs, (n,), rounded to DECIMALS.

    Raises:
        ValueError: If the two differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"values must be paired, but there are {len(ours)} and {len(theirs)}")
    differences: Floats = np.round(np.array(ours) - np.array(theirs), DECIMALS)
    return differences


def t_test(
    differences: Floats, alternative: Literal["two-sided", "greater"] = "two-sided"
) -> float | None:
    """Test whether differences have a mean other than 0, or greater than 0.

    Args:
        differences: `paired_differences`, (n,).
        alternative: "greater" makes p small only where the mean is positive.

    Returns:
        The p-value; 1 where all differences are 0; None for fewer than two, and where all are the
        same other number.
    """
    if len(differences) < 2:
        return None
    if np.ptp(differences) == 0:
        return None if differences.any() else 1.0
    from scipy import stats

    return float(stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue)


def _wilcoxon(differences: Floats) -> float | None:
    if len(differences) < FEWEST_FOR_WILCOXON:
        return None
    if not differences.any():
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def method_statistics(results: ExperimentResults) -> list[MethodStatistics]:
    """Every method's estimates over its finished runs, and its tests against the baseline."""
    values = run_metrics(results)
    baseline = next((m for m in results.methods if m.name == results.baseline), None)
    return [
        MethodStatistics(
            name=method.name,
            metrics=_metrics([*values[method.name].values()]),
            seconds=_seconds(method),
            tests={
                metric: paired_test(*paired_values(method, baseline, metric)) for metric in TESTED
            }
            if baseline and method is not baseline
            else {},
        )
        for method in results.methods
    ]


def run_metrics(results: ExperimentResults) -> dict[str, dict[int, dict[str, float | None]]]:
    """Every finished run's METRICS, by method and seed; None where one is undefined.

    Intransigence is measured against the best of the methods compared (Chen et al., 2020): per
    experience, the largest of their mean accuracies just after learning it. Methods trained iid
    do not learn one experience at a time, and have none.
    """
    learned = [
        np.diagonal(method.matrices.mean(axis=0))
        for method in results.finished
        if not method.is_iid
    ]
    best = np.max(learned, axis=0) if learned else np.empty(0)
    return {
        method.name: {
            seed: {
                **cell.metrics,
                "intransigence": None if method.is_iid else average_intransigence(cell.R, best),
            }
            for seed, cell in method.cells.items()
        }
        for method in results.methods
    }


def _metrics(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Estimate | None]:
    return {
        name: estimate([value for row in rows if (value := row[name]) is not None])
        for name in METRICS
    }


def _seconds(method: MethodResults) -> dict[str, Estimate | None]:
    cells = method.cells.values()
    return {phase: estimate([cell.seconds[phase] for cell in cells]) for phase in PHASES}


def paired_values(
    first: MethodResults, second: MethodResults, metric: str
) -> tuple[list[float], list[float]]:
    """Both methods' values of a metric for the seeds that define it for both."""
    both = [
        (cell.metrics[metric], second.cells[seed].metrics[metric])
        for seed, cell in first.cells.items()
        if seed in second.cells
    ]
    pairs = [(one, other) for one, other in both if one is not None and other is not None]
    return [one for one, _ in pairs], [other for _, other in pairs]
