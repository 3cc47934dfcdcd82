"""Ranks of methods in several experiments, and whether their differences are significant.

References:
    Demšar (2006), Statistical comparisons of classifiers over multiple data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.estimates import DECIMALS
from avalanche_ext.report.paired import CONFIDENCE
from avalanche_ext.report.statistics import LOWER_IS_BETTER, defined
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults

FEWEST_EXPERIMENTS = 2
"""With one there is nothing to average over."""

FEWEST_FOR_VERDICT = 5
"""With fewer experiments, Friedman's test hardly ever finds differences, and its p-value is
rough."""


@dataclass(frozen=True)
class Ranking:
    """The ranks of methods in several experiments, 1 for the best.

    Attributes:
        metric: The metric whose mean over seeds is ranked.
        experiments: Number of experiments.
        ranks: The mean rank of each method that has finished in all of them, the best first;
            methods that tie share the mean of their places.
        friedman: p-value of Friedman's test that all methods are alike; None for fewer than three
            methods.
        critical_difference: The difference between two mean ranks from which Nemenyi's test
            distinguishes methods at 5 %; None if `friedman` is None.
    """

    metric: str
    experiments: int
    ranks: Mapping[str, float]
    friedman: float | None
    critical_difference: float | None

    @property
    def has_verdict(self) -> bool:
        """Whether there are enough experiments to say which methods differ."""
        return self.friedman is not None and self.experiments >= FEWEST_FOR_VERDICT

    @property
    def alike(self) -> list[tuple[str, ...]]:
        """The largest groups of neighbours that Nemenyi's test does not distinguish.

        All methods are one group if Friedman's test finds no difference at 5 %.
        """
        names = [*self.ranks]
        if self.friedman is not None and self.friedman >= 1 - CONFIDENCE:
            return [tuple(names)]
        groups: list[tuple[str, ...]] = []
        reach = self.critical_difference or 0.0
        end = 0
        for start, name in enumerate(names):
            within = [
                other for other in names[start:] if self.ranks[other] - self.ranks[name] <= reach
            ]
            if len(within) > 1 and start + len(within) > end:
                groups.append(tuple(within))
                end = start + len(within)
        return groups


def ranking(experiments: Sequence[ExperimentResults], metric: str = "ACC") -> Ranking | None:
    """Rank the methods that have at least one finished run in every experiment.

    Friedman's test and Nemenyi's critical difference (Demšar, 2006) treat each experiment as one
    observation of every method, whatever its number of seeds.

    Args:
        experiments: The experiments.
        metric: One of `statistics.METRICS`.

    Returns:
        The ranking; None for one experiment, or for fewer than two methods.
    """
    means = [_means(each, metric) for each in experiments]
    names = [name for name in means[0] if all(name in each for each in means)]
    if len(experiments) < FEWEST_EXPERIMENTS or len(names) < 2:
        return None
    from scipy import stats

    table = np.array([[each[name] for name in names] for each in means])
    ranks = stats.rankdata(table if metric in LOWER_IS_BETTER else -table, axis=1)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    mean_ranks = {names[i]: float(ranks[:, i].mean()) for i in order}
    testable = len(names) > 2
    return Ranking(
        metric=metric,
        experiments=len(experiments),
        ranks=mean_ranks,
        friedman=_friedman(ranks) if testable else None,
        critical_difference=_nemenyi(len(names), len(experiments)) if testable else None,
    )


def _means(results: ExperimentResults, metric: str) -> dict[str, float]:
    """The mean of each method that has a run with the metric, rounded to DECIMALS."""
    return {
        name: round(float(np.mean([*values.values()])), DECIMALS)
        for name, values in defined(results.run_metrics(), metric).items()
        if values
    }


def _friedman(ranks: Floats) -> float:
    if not np.ptp(ranks):
        return 1.0  # All methods tie, so the statistic is 0 / 0.
    from scipy import stats

    return float(stats.friedmanchisquare(*ranks.T).pvalue)


def _nemenyi(n_methods: int, n_experiments: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5 %."""
    from scipy import stats

    q = stats.studentized_range.ppf(CONFIDENCE, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_experiments)))
