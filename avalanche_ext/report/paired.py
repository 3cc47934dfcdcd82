"""Comparing two methods run by run: tests, effect sizes, intervals and Holm's correction.

References:
    Holm (1979), A simple sequentially rejective multiple test procedure.
    Hesterberg (2015), What teachers should know about the bootstrap, section 4.1.
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.report.estimates import DECIMALS, Estimate, estimate
from avalanche_ext.results.cell import Floats

Key = TypeVar("Key")
Alternative = Literal["two-sided", "greater"]

FEWEST_FOR_WILCOXON = 6
"""With fewer pairs Wilcoxon's two-sided test cannot reach p < 0.05 (5 pairs: 2 / 2^5 = 0.0625)."""

FEWEST_FOR_EFFECT = 3
"""With two pairs, d says little more than how close the two happen to be."""

MOST_FOR_ALL_SIGNS = 13
"""Up to this many differences, the test enumerates all 2^n combinations of signs."""

FEWEST_PAIRS = 5
"""With fewer pairs a bootstrap covers too little (3 normal pairs: 73 % where it says 95 %), and the
report warns."""

CONFIDENCE = 0.95
"""The share of experiments in which an interval should hold the true value."""

LEVEL = 0.05
"""A difference whose corrected p-value is below this is significant."""

_N_RESAMPLES = 9999


@dataclass(frozen=True)
class PairedTest:
    """A method's values of one metric against another's, over the seeds that both have finished.

    p-values are two-sided, except for claims.

    Attributes:
        difference: Mean and standard deviation of the paired differences; None without pairs.
        interval: Bootstrap interval of the mean difference; None below FEWEST_PAIRS pairs.
        effect: The mean difference divided by the standard deviation of the differences (Cohen's d
            of paired values); None below FEWEST_FOR_EFFECT pairs, and if they do not vary.
        wins: Number of seeds in which the method's value is higher; a tie counts half.
        t_test: p-value of the paired t-test; None if it is undefined.
        wilcoxon: p-value of Wilcoxon's signed-rank test; None below 6 pairs.
        t_test_holm: `t_test`, corrected for the number of tests in the table.
        wilcoxon_holm: `wilcoxon`, corrected in the same way.
    """

    difference: Estimate | None
    interval: tuple[float, float] | None = None
    effect: float | None = None
    wins: float = 0.0
    t_test: float | None = None
    wilcoxon: float | None = None
    t_test_holm: float | None = None
    wilcoxon_holm: float | None = None

    @property
    def n_pairs(self) -> int:
        """The number of seeds that both methods have finished."""
        return self.difference.n if self.difference else 0

    @property
    def is_significant(self) -> bool:
        """Whether the corrected t-test finds a difference, from FEWEST_PAIRS seeds or more."""
        p = self.t_test_holm
        return p is not None and p < LEVEL and self.n_pairs >= FEWEST_PAIRS


def paired_test(
    ours: Sequence[float], theirs: Sequence[float], alternative: Alternative = "two-sided"
) -> PairedTest:
    """Test whether paired values differ in their mean (t-test) or location (Wilcoxon).

    If all differences are 0, p is 1. If all are the same non-zero number, there is no variance to
    compare it with, and p is undefined. `corrected` then corrects p for the number of tests.

    Args:
        ours: A method's values, one per seed, (n,).
        theirs: The other method's values for the same seeds, (n,).
        alternative: "greater" makes p small only if our values are higher.

    Raises:
        ValueError: If the two differ in length.
    """
    differences = paired_differences(ours, theirs)
    return PairedTest(
        difference=estimate(differences.tolist()),
        interval=interval([differences]),
        effect=_effect(differences),
        wins=float(wins(differences).sum()),
        t_test=t_test(differences, alternative),
        wilcoxon=wilcoxon(differences, alternative),
    )


def _effect(differences: Floats) -> float | None:
    if len(differences) < FEWEST_FOR_EFFECT or np.ptp(differences) == 0:
        return None
    return float(differences.mean() / differences.std(ddof=1))


def paired_differences(ours: Sequence[float], theirs: Sequence[float]) -> Floats:
    """Ours minus theirs, (n,), rounded to DECIMALS.

    Without rounding, equal differences would have a variance in the t-test, and different ranks in
    Wilcoxon's test.

    Raises:
        ValueError: If the two differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"values must be paired, but there are {len(ours)} and {len(theirs)}")
    differences: Floats = np.round(np.array(ours) - np.array(theirs), DECIMALS)
    return differences


def wins(differences: Floats) -> Floats:
    """Return 1 for a positive difference, 0 for a negative one, 1/2 for a tie, (n,)."""
    return np.heaviside(differences, 0.5)


def t_test(differences: Floats, alternative: Alternative = "two-sided") -> float | None:
    """Return the p-value of the t-test that the mean of differences is not 0, or above 0.

    Args:
        differences: `paired_differences`, (n,).
        alternative: "greater" makes p small only if the mean is positive.

    Returns:
        The p-value; 1 if all differences are 0; None for fewer than two, and if all are the same
        non-zero number.
    """
    if len(differences) < 2:
        return None
    if np.ptp(differences) == 0:
        return None if differences.any() else 1.0
    from scipy import special  # `scipy.stats` takes three times as long to import.

    n = len(differences)
    t = differences.mean() / np.sqrt(differences.var(ddof=1) / n)
    if alternative == "greater":
        return float(special.stdtr(n - 1, -t))
    return float(2 * special.stdtr(n - 1, -abs(t)))


def wilcoxon(differences: Floats, alternative: Alternative = "two-sided") -> float | None:
    """p-value of Wilcoxon's signed-rank test; None for fewer than FEWEST_FOR_WILCOXON differences.

    It is exact, even with ties, for up to MOST_FOR_ALL_SIGNS differences. Zeros are left out, as
    Wilcoxon did. The arguments are those of `t_test`.
    """
    if len(differences) < FEWEST_FOR_WILCOXON:
        return None
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    from scipy import stats

    if len(differences) > MOST_FOR_ALL_SIGNS:
        return float(stats.wilcoxon(differences, alternative=alternative).pvalue)
    # Same as `stats.wilcoxon` with ties, but 100 times as fast.
    ranks = stats.rankdata(np.abs(differences))

    def positive_ranks(signed: Floats, axis: int) -> Floats:
        total: Floats = np.sum(np.where(signed > 0, ranks, 0), axis=axis)
        return total

    test = stats.permutation_test(
        (differences,),
        positive_ranks,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative=alternative,
    )
    return float(test.pvalue)


def interval(strata: Sequence[Floats]) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean of several strata's means, such as experiments'.

    Each stratum is resampled separately. The plain percentile bootstrap is too narrow for few
    values, so the quantiles are moved outwards by Hesterberg's (2015) correction: Φ(-t √(n / (n -
    1))) replaces 2.5 %, with Student's quantile t. For 5 normal values, the coverage is then 92 %
    instead of 84 %. The same values always give the same interval.

    Args:
        strata: The values of each stratum, each (n,).

    Returns:
        The lower and upper end; None without strata, or if one has fewer than FEWEST_PAIRS values.
    """
    if not strata or any(len(values) < FEWEST_PAIRS for values in strata):
        return None
    from scipy import special

    freedom = sum(len(values) - 1 for values in strata)
    narrow = np.mean([len(values) / (len(values) - 1) for values in strata])
    tail = special.ndtr(special.stdtrit(freedom, (1 - CONFIDENCE) / 2) * narrow**0.5)
    drawn = zip(strata, _resamples(tuple(map(len, strata))), strict=True)
    means = np.mean([values[indices].mean(axis=1) for values, indices in drawn], axis=0)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _resamples(sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Return the indices that resamples draw, (_N_RESAMPLES, n) for each stratum size n.

    They equal those of `scipy.stats.bootstrap` with rng=0, but are drawn once for all tests of a
    table.
    """
    rng = np.random.default_rng(0)
    return [rng.integers(0, n, (_N_RESAMPLES, n)) for n in sizes]


def holm(p_values: Mapping[Key, float | None]) -> dict[Key, float | None]:
    """Return p-values corrected for their number by Holm (1979); None stays None.

    The k-th smallest of m is multiplied by m - k + 1, and raised to the corrected ones before it if
    these are larger. Rejecting below 5 % then leads to any false rejection with a probability below
    5 %.

    >>> holm({"a": 0.01, "b": 0.03, "c": None, "d": 0.04})
    {'a': 0.03, 'b': 0.06, 'c': None, 'd': 0.06}
    """
    numbered = enumerate(p_values.values())
    ascending = sorted((p, number) for number, p in numbered if p is not None)
    found: dict[int, float] = {}
    largest = 0.0
    for rank, (p, number) in enumerate(ascending):
        largest = max(largest, min(1.0, p * (len(ascending) - rank)))
        found[number] = largest
    return {key: found.get(number) for number, key in enumerate(p_values)}


def corrected(tests: Mapping[Key, PairedTest]) -> dict[Key, PairedTest]:
    """Return the tests of one table with Holm's correction over them."""
    t_tests = holm({key: test.t_test for key, test in tests.items()})
    wilcoxons = holm({key: test.wilcoxon for key, test in tests.items()})
    return {
        key: replace(test, t_test_holm=t_tests[key], wilcoxon_holm=wilcoxons[key])
        for key, test in tests.items()
    }
