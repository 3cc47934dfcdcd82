"""Estimates and paired comparisons, against numbers by hand, scipy called directly and oracles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy import stats

from avalanche_ext.report.estimates import Estimate, estimate
from avalanche_ext.report.paired import (
    Alternative,
    corrected,
    holm,
    interval,
    paired_test,
    wilcoxon,
)
from avalanche_ext.results.cell import Floats
from tests.oracles import statistics as oracle

OURS = [0.88, 0.87, 0.91, 0.86, 0.90, 0.885]
BASELINE = [0.86, 0.86, 0.87, 0.865, 0.85, 0.855]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([0.5], Estimate(0.5, None, 1)),
        ([0.5, 0.5], Estimate(0.5, 0.0, 2)),
        ([1.0, 2.0, 3.0], Estimate(2.0, 1.0, 3)),
    ],
)
def test_estimate(values: list[float], expected: Estimate | None) -> None:
    assert estimate(values) == expected


def test_the_standard_error_is_scipys() -> None:
    assert estimate(OURS).standard_error == pytest.approx(stats.sem(OURS))
    assert estimate([0.5]).standard_error is None


@pytest.mark.parametrize("n", [2, 3, 5, 6])
def test_paired_t_test_is_scipys(n: int) -> None:
    test = paired_test(OURS[:n], BASELINE[:n])
    assert test.t_test == pytest.approx(stats.ttest_rel(OURS[:n], BASELINE[:n]).pvalue, rel=1e-6)


TIED = np.array([0.1, 0.1, -0.1, 0.3, 0.0, 0.2, -0.3, 0.4])
LONG = np.random.default_rng(0).normal(0.3, size=20)


@pytest.mark.parametrize("differences", [np.subtract(OURS, BASELINE), TIED, LONG])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_wilcoxon_is_scipys(differences: Floats, alternative: Alternative) -> None:
    expected = stats.wilcoxon(np.round(differences, 12), alternative=alternative).pvalue
    zeros = [0.0] * len(differences)
    found = paired_test(differences.tolist(), zeros, alternative)
    assert found.wilcoxon == pytest.approx(expected)


def test_wilcoxon_with_ties_goes_through_all_signs() -> None:
    assert wilcoxon(TIED) == pytest.approx(oracle.wilcoxon(TIED.tolist()))
    assert paired_test(OURS[:5], BASELINE[:5]).wilcoxon is None, "fewer than six"


def test_direction_does_not_change_p_but_the_sign_of_the_difference() -> None:
    there, back = paired_test(OURS, BASELINE), paired_test(BASELINE, OURS)
    assert there.difference is not None
    assert back.difference is not None
    assert there.difference.mean == pytest.approx(0.145 / 6)
    assert back.difference.mean == pytest.approx(-0.145 / 6)
    assert (there.t_test, there.wilcoxon) == pytest.approx((back.t_test, back.wilcoxon))


@pytest.mark.parametrize(
    ("ours", "baseline", "t_test", "wilcoxon"),
    [
        ([], [], None, None),
        ([0.9], [0.8], None, None),
        ([0.9, 0.8], [0.9, 0.8], 1.0, None),
        (OURS, OURS, 1.0, 1.0),
        # The same difference for every seed has no variance; it is not a proof, though scipy
        # says p = 0 (or, by rounding, 1e-60).
        ([0.9, 0.8], [0.8, 0.7], None, None),
        ([0.1 * k + 0.1 for k in range(6)], [0.1 * k for k in range(6)], None, 2 / 2**6),
    ],
)
def test_degenerate_pairs(
    ours: Sequence[float],
    baseline: Sequence[float],
    t_test: float | None,
    wilcoxon: float | None,
) -> None:
    test = paired_test(ours, baseline)
    assert (test.t_test, test.wilcoxon) == (t_test, wilcoxon)


def test_values_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 6 and 5"):
        paired_test(OURS, BASELINE[:5])


def tail(n_strata: int, n: int) -> float:
    """Hesterberg's share below the interval, for strata of n values."""
    t = stats.t.ppf(0.975, n_strata * (n - 1))
    return stats.norm.cdf(-t * np.sqrt(n / (n - 1)))


def test_the_interval_is_that_of_all_resamples() -> None:
    differences = np.subtract(OURS[:5], BASELINE[:5])
    means = oracle.all_resampled_means(differences)
    low, high = np.quantile(means, [tail(1, 5), 1 - tail(1, 5)])
    found = paired_test(OURS[:5], BASELINE[:5]).interval
    assert found == pytest.approx((low, high), abs=0.002)
    # The plain percentile bootstrap's is narrower.
    assert found[0] < np.quantile(means, 0.025)
    assert found[1] > np.quantile(means, 0.975)


def test_an_interval_over_strata_resamples_each_for_itself() -> None:
    strata = [np.array([0.0, 0.1, 0.2, 0.3, 0.4]), np.array([5.0, 5.5, 6.0, 6.5, 7.0])]
    means = oracle.resampled_means_of_means([each.tolist() for each in strata], 6_000)
    low, high = np.quantile(means, [tail(2, 5), 1 - tail(2, 5)])
    assert interval(strata) == pytest.approx((low, high), abs=0.05)


@pytest.mark.parametrize("sizes", [(5,), (20,), (5, 7)])
def test_resamples_are_those_of_scipy(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    strata = [rng.normal(size=n) for n in sizes]
    narrow = np.mean([n / (n - 1) for n in sizes])
    t = stats.t.ppf(0.975, sum(n - 1 for n in sizes))
    expected = stats.bootstrap(
        strata,
        lambda *each, axis: np.mean([values.mean(axis=axis) for values in each], axis=0),
        n_resamples=9999,
        confidence_level=1 - 2 * stats.norm.cdf(-t * np.sqrt(narrow)),
        method="percentile",
        rng=0,
    ).confidence_interval
    assert interval(strata) == pytest.approx(tuple(expected), rel=1e-12)


def test_intervals_cover_what_they_say() -> None:
    """The share of intervals that hold the true mean, of 250 experiments of five seeds."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(250, 5))
    found = [interval([each]) for each in samples]
    share = np.mean([each is not None and each[0] <= 0 <= each[1] for each in found])
    assert 0.88 <= share <= 0.96


def test_intervals_need_five_pairs_and_are_the_same_every_time() -> None:
    assert paired_test(OURS[:4], BASELINE[:4]).interval is None
    assert interval([]) is None
    assert interval([np.arange(5.0), np.arange(4.0)]) is None
    assert interval([np.arange(5.0)]) == interval([np.arange(5.0)])


def test_effect_and_wins() -> None:
    test = paired_test([0.5, 0.7, 0.9, 0.4], [0.4, 0.7, 0.6, 0.5])
    # The differences are 0.1, 0, 0.3 and -0.1.
    assert test.effect == pytest.approx(0.075 / np.std([0.1, 0.0, 0.3, -0.1], ddof=1))
    assert (test.wins, test.n_pairs) == (2.5, 4)
    same = paired_test([0.9, 0.8, 0.3], [0.8, 0.7, 0.2])
    assert (same.effect, same.wins) == (None, 3)


def test_a_one_sided_test_is_small_only_in_its_direction() -> None:
    up = paired_test(OURS, BASELINE, "greater")
    down = paired_test(BASELINE, OURS, "greater")
    two_sided = stats.ttest_rel(OURS, BASELINE).pvalue
    assert up.t_test == pytest.approx(two_sided / 2)
    assert down.t_test == pytest.approx(1 - two_sided / 2)
    assert up.wilcoxon < 0.05 < down.wilcoxon


@pytest.mark.parametrize(
    "p_values",
    [[], [0.04], [0.01, 0.04, 0.03], [0.5, 0.5, 0.02, 1.0], [0.2, 0.0, 0.01, 0.011, 0.9, 0.01]],
)
def test_holm_is_bonferroni_of_every_set_of_tests(p_values: list[float]) -> None:
    found = holm(dict(enumerate(p_values)))
    assert [*found.values()] == pytest.approx(oracle.holm(p_values))
    assert [*found] == [*range(len(p_values))]


def test_holm_does_not_count_tests_that_are_undefined() -> None:
    assert holm({"a": None, "b": 0.02, "c": 0.04}) == {"a": None, "b": 0.04, "c": 0.04}


def test_both_tests_of_a_table_are_corrected() -> None:
    tests = {
        "better": paired_test(OURS, BASELINE),
        "same": paired_test(BASELINE, BASELINE),
        "alone": paired_test(OURS[:1], BASELINE[:1]),
    }
    found = corrected(tests)
    assert found["better"].t_test_holm == pytest.approx(2 * tests["better"].t_test)
    assert found["better"].wilcoxon_holm == pytest.approx(2 * tests["better"].wilcoxon)
    assert found["same"].t_test_holm == 1.0
    assert found["alone"].t_test_holm is None
    assert found["better"].t_test == tests["better"].t_test
