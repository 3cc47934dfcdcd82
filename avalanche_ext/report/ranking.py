"""Methods compared over several experiments: ranks, how often one wins, mean differences.

References:
    Demšar (2006), Statistical comparisons of classifiers over multiple data sets.
    Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion.
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.estimates import DECIMALS, Estimate, estimate
from avalanche_ext.report.paired import CONFIDENCE, interval, paired_differences, wins
from avalanche_ext.report.statistics import LOWER_IS_BETTER, defined, pairs
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults

FEWEST_EXPERIMENTS = 2
"""With one there is nothing to average over."""


@dataclass(frozen=True)
class Ranking:
    """The ranks of methods in several experiments, 1 for the best.

    Attributes:
        metric: The metric whose mean over seeds is ranked.
        experiments: How many experiments there are.
        ranks: The mean rank of each method that has finished in all of them, the best first;
            methods that tie share the mean of their places.
        friedman: p-value of Friedman's test that all methods are alike; None for fewer than three
            methods.
        critical_difference: By how much two mean ranks must differ for Nemenyi's test to tell
            them apart at 5 %; None where `friedman` is.
    """

    metric: str
    experiments: int
    ranks: Mapping[str, float]
    friedman: float | None
    critical_difference: float | None

    @property
    def alike(self) -> list[tuple[str, ...]]:
        """The largest groups of neighbours that Nemenyi's test does not tell apart."""
        names = [*self.ranks]
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
    """Rank the methods that all experiments have finished at least one run of.

    Friedman's test and Nemenyi's critical difference (Demšar, 2006) take each experiment as one
    observation of every method, whatever its number of seeds.

    Args:
        experiments: The experiments.
        metric: One of `statistics.METRICS`.

    Returns:
        The ranking; None for one experiment, or fewer than two methods in all.
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
        return 1.0  # All tie everywhere, where the statistic is 0 / 0.
    from scipy import stats

    return float(stats.friedmanchisquare(*ranks.T).pvalue)


def _nemenyi(n_methods: int, n_experiments: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5 %."""
    from scipy import stats

    q = stats.studentized_range.ppf(CONFIDENCE, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_experiments)))


@dataclass(frozen=True)
class Duel:
    """One method against another over the pairs of runs with the same seed, of all experiments.

    Attributes:
        difference: The mean over experiments of the mean paired difference, its standard deviation
            over experiments, and their number.
        interval: Its bootstrap interval: each experiment's seeds are resampled for themselves, and
            a seed's two runs stay together. None where an experiment has few pairs.
        n_pairs: The number of pairs.
        win_probability: How probable it is that the first method beats the second with the same
            seed: its share of the pairs, where a tie counts half.
        win_interval: Jeffreys' interval of this probability.
    """

    difference: Estimate
    interval: tuple[float, float] | None
    n_pairs: int
    win_probability: float
    win_interval: tuple[float, float]


def duels(
    experiments: Sequence[ExperimentResults], against: str, metric: str = "ACC"
) -> dict[str, Duel]:
    """Compare every method with one of them, over the experiments that have both.

    Args:
        experiments: The experiments, one or more.
        against: Name of the method that the others are compared with.
        metric: One of `statistics.METRICS`; a lower forgetting or intransigence wins.

    Returns:
        The comparisons by the other method's name, of those that share a seed with `against`.
    """
    values = [defined(each.run_metrics(), metric) for each in experiments]
    found = {}
    for name in dict.fromkeys(name for each in values for name in each if name != against):
        strata = [
            paired_differences(*pairs(each.get(name, {}), each.get(against, {}))) for each in values
        ]
        strata = [differences for differences in strata if len(differences)]
        if strata:
            found[name] = _duel(strata, -1 if metric in LOWER_IS_BETTER else 1)
    return found


def _duel(strata: Sequence[Floats], sign: int) -> Duel:
    every = np.concatenate(strata)
    won = float(wins(sign * every).sum())
    difference = estimate([float(differences.mean()) for differences in strata])
    assert difference is not None
    return Duel(
        difference=difference,
        interval=interval(strata),
        n_pairs=len(every),
        win_probability=won / len(every),
        win_interval=jeffreys_interval(won, len(every)),
    )


def jeffreys_interval(won: float, n: int) -> tuple[float, float]:
    """Jeffreys' 95 % interval of a probability, for `won` of n trials; a half win counts as such.

    It is that of a Beta(won + 1/2, n - won + 1/2), except that it reaches 0 where nothing was won
    and 1 where everything was (Brown, Cai and DasGupta, 2001).

    >>> low, high = jeffreys_interval(10, 10)
    >>> round(low, 3), high
    (0.783, 1.0)
    """
    from scipy import stats

    low, high = stats.beta.interval(CONFIDENCE, won + 0.5, n - won + 0.5)
    return (0.0 if won == 0 else float(low)), (1.0 if won == n else float(high))
