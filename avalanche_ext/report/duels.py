"""One method against another over several experiments: mean differences and shares of wins.

References:
    Brown, Cai and DasGupta (2001), Interval estimation for a binomial proportion.
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.estimates import Estimate, estimate
from avalanche_ext.report.paired import CONFIDENCE, interval, paired_differences, wins
from avalanche_ext.report.statistics import LOWER_IS_BETTER, defined, pairs
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults


@dataclass(frozen=True)
class Duel:
    """A comparison of two methods over all pairs of runs with the same seed and experiment.

    Attributes:
        difference: The mean over experiments of the mean paired difference, its standard deviation
            over experiments, and their number.
        interval: Its bootstrap interval: seeds are resampled separately within each experiment, and
            a seed's two runs stay together. None if an experiment has few pairs.
        n_pairs: The number of pairs.
        win_probability: The probability that the first method beats the second with the same seed:
            its share of the pairs, where a tie counts half.
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
        The comparisons by the other method's name, for methods that share a seed with `against`.
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
    from scipy.special import betaincinv

    tails = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = (betaincinv(won + 0.5, n - won + 0.5, tail) for tail in tails)
    return (0.0 if won == 0 else float(low)), (1.0 if won == n else float(high))


@dataclass(frozen=True)
class Wins:
    """How often each method beats each other one with the same seed, over several experiments.

    Attributes:
        metric: The metric in which methods are compared.
        names: The methods, beginning with the one that wins most.
        won: Number of pairs that the row's method wins, a tie counting half, (m, m).
        n_pairs: Number of pairs of runs that the two methods share, (m, m); 0 on the diagonal.
    """

    metric: str
    names: Sequence[str]
    won: Floats
    n_pairs: Floats

    @property
    def probabilities(self) -> Floats:
        """The shares of pairs won, in [0, 1], (m, m); nan without pairs."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.won / self.n_pairs)


def count_wins(experiments: Sequence[ExperimentResults], metric: str = "ACC") -> Wins | None:
    """Count the wins in all pairs of runs with the same seed and experiment.

    Args:
        experiments: The experiments, two or more.
        metric: One of `statistics.METRICS`; a lower forgetting or intransigence wins.

    Returns:
        The counts for methods that occur in several experiments and share a seed with another such
        method; None for fewer than two.
    """
    values = [defined(each.run_metrics(), metric) for each in experiments]
    found = Counter(name for each in values for name, runs in each.items() if runs)
    names = [name for name, n in found.items() if n > 1]
    won, n_pairs = np.zeros((2, len(names), len(names)))
    sign = -1 if metric in LOWER_IS_BETTER else 1
    for each in values:
        for i, ours in enumerate(names):
            for j, theirs in enumerate(names[:i]):
                both = pairs(each.get(ours, {}), each.get(theirs, {}))
                count = float(wins(sign * paired_differences(*both)).sum())
                n = len(both[0])
                won[i, j] += count
                won[j, i] += n - count
                n_pairs[[i, j], [j, i]] += n
    met = [i for i in range(len(names)) if n_pairs[i].any()]
    if len(met) < 2:
        return None
    share = won[met].sum(axis=1) / n_pairs[met].sum(axis=1)
    order = [met[k] for k in np.argsort(-share, kind="stable")]
    grid = np.ix_(order, order)
    return Wins(metric, [names[i] for i in order], won[grid], n_pairs[grid])
