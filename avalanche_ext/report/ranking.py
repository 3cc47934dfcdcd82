"""Ranks of methods in several experiments, and whether their differences are significant.

References:
    Demšar (2006), Statistical comparisons of classifiers over multiple data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from avalanche_ext.report.estimates import DECIMALS
from avalanche_ext.report.paired import CONFIDENCE
from avalanche_ext.report.statistics import LOWER_IS_BETTER, defined
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import alternatives, count

FEWEST_EXPERIMENTS = 2
"""With one there is nothing to average over."""

FEWEST_FOR_VERDICT = 5
"""With fewer experiments, Friedman's test hardly ever finds differences, and its p-value is
rough."""

_MOST_NAMED = 4
"""Maximum number of methods left out for one reason that are named one by one."""

_IID = "trained iid"
_ABSENT = "without a finished run in some experiment"
_APART = "without a seed in common with the others"


@dataclass(frozen=True)
class Ranking:
    """The ranks of methods in several experiments, 1 for the best.

    Attributes:
        metric: The metric whose mean over seeds is ranked.
        experiments: Number of experiments.
        ranks: The mean rank of each ranked method, the best first; methods that tie share the mean
            of their places.
        friedman: p-value of Friedman's test that all methods are alike; None for fewer than three
            methods.
        critical_difference: The difference between two mean ranks from which Nemenyi's test
            distinguishes methods at 5 %; None if `friedman` is None.
        left_out: The other methods with a finished run, each with the reason why it is not ranked.
        n_unshared: Number of runs of ranked methods that do not count, because another ranked
            method lacks their seed.
    """

    metric: str
    experiments: int
    ranks: Mapping[str, float]
    friedman: float | None
    critical_difference: float | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    n_unshared: int = 0

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
    """Rank methods in each experiment, over the seeds that all ranked methods share.

    Methods trained iid and methods without a finished run in some experiment are not ranked. If the
    others share no seed in an experiment, those with its most frequent seed are ranked.

    Friedman's test and Nemenyi's critical difference (Demšar, 2006) treat each experiment as one
    observation of every method, whatever its number of seeds.

    Args:
        experiments: The experiments.
        metric: One of `statistics.METRICS`.

    Returns:
        The ranking; None for one experiment, or for fewer than two methods.
    """
    if len(experiments) < FEWEST_EXPERIMENTS:
        return None
    values = [defined(each.run_metrics(), metric) for each in experiments]
    reasons = _reasons(experiments, values)
    names = [name for name, reason in reasons.items() if not reason]
    if len(names) < 2:
        return None
    from scipy import stats

    ranked = [[each[name] for name in names] for each in values]
    table = np.array([_means(runs) for runs in ranked])
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
        left_out={name: reason for name, reason in reasons.items() if reason},
        n_unshared=sum(len(each) - len(_shared_seeds(runs)) for runs in ranked for each in runs),
    )


def on_left_out(ranks: Ranking) -> str:
    """Return a sentence on the methods and runs that the ranks leave out; "" if there are none."""
    parts = []
    for reason in dict.fromkeys(ranks.left_out.values()):
        names = [name for name, each in ranks.left_out.items() if each == reason]
        few = len(names) <= _MOST_NAMED
        parts.append(f"{', '.join(names)} ({reason})" if few else f"{len(names)} methods {reason}")
    if ranks.n_unshared:
        parts.append(f"{count(ranks.n_unshared, 'run')} with seeds that a ranked method lacks")
    return f"The ranks leave out {alternatives(parts, 'and')}." if parts else ""


def _reasons(
    experiments: Sequence[ExperimentResults],
    values: Sequence[Mapping[str, Mapping[int, float]]],
) -> dict[str, str]:
    """Return why each method with a value is not ranked; "" for those that are."""
    iid = {method.name for each in experiments for method in each.finished if method.is_iid}
    reasons = {name: "" for each in values for name, runs in each.items() if runs}
    for name in reasons:
        if name in iid:
            reasons[name] = _IID
        elif not all(each.get(name) for each in values):
            reasons[name] = _ABSENT
    for each in values:
        names = [name for name, reason in reasons.items() if not reason]
        counts = Counter(seed for name in names for seed in each[name])
        frequent = max(counts, key=lambda seed: counts[seed], default=None)
        reasons |= {name: _APART for name in names if frequent not in each[name]}
    return reasons


def _shared_seeds(runs: Sequence[Mapping[int, float]]) -> list[int]:
    return [seed for seed in runs[0] if all(seed in each for each in runs)]


def _means(runs: Sequence[Mapping[int, float]]) -> list[float]:
    """The mean of each method over the seeds that all of them have, rounded to DECIMALS."""
    seeds = _shared_seeds(runs)
    return [round(float(np.mean([each[seed] for seed in seeds])), DECIMALS) for each in runs]


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
