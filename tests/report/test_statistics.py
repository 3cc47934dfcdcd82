"""Means, deviations and paired tests, against numbers by hand and scipy called directly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from scipy import stats

from avalanche_ext.report.statistics import (
    Estimate,
    MethodStatistics,
    PairedTest,
    estimate,
    method_statistics,
    paired_test,
)
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result

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


def test_wilcoxon_is_scipys_and_needs_six_pairs() -> None:
    assert paired_test(OURS, BASELINE).wilcoxon == stats.wilcoxon(OURS, BASELINE).pvalue
    assert paired_test(OURS[:5], BASELINE[:5]).wilcoxon is None


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


def statistics_of(directory: Path) -> dict[str, MethodStatistics]:
    return {each.name: each for each in method_statistics(read_results(directory))}


def test_methods_are_tested_over_the_seeds_both_finished(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl", "er"], [0, 1, 2, 3], baseline="ber")
    for seed, last in enumerate([0.5, 0.6, 0.4]):
        write_result(tmp_path, "ber", seed, two_by_two(last))
    write_failure(tmp_path, "ber", 3, "out of memory")
    for seed, last in [(1, 0.7), (2, 0.8), (3, 0.9)]:
        write_result(tmp_path, "drl", seed, two_by_two(last))
    found = statistics_of(tmp_path)
    test = found["drl"].tests["ACC"]
    assert not found["ber"].tests
    # ACC is the mean of the last row, so half of each difference of its first entry remains.
    assert test.difference == Estimate(pytest.approx(0.125), pytest.approx(0.075 * 2**0.5), 2)
    assert test.t_test == pytest.approx(stats.ttest_rel([0.80, 0.85], [0.75, 0.65]).pvalue)
    assert found["er"].tests == dict.fromkeys(["ACC", "BWT"], PairedTest(None, None, None))


def test_bwt_is_tested_as_acc_is(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], list(range(6)), baseline="ber")
    ours, theirs = [0.7, 0.75, 0.8, 0.7, 0.72, 0.9], [0.5, 0.6, 0.4, 0.55, 0.71, 0.62]
    for seed, (our_last, their_last) in enumerate(zip(ours, theirs, strict=True)):
        write_result(tmp_path, "ber", seed, two_by_two(their_last))
        write_result(tmp_path, "drl", seed, two_by_two(our_last, learned=0.8))
    tests = statistics_of(tmp_path)["drl"].tests
    # BWT is the change of the first experience's accuracy, from 0.8 or 0.9 to the last.
    assert tests["BWT"] == paired_test([x - 0.8 for x in ours], [x - 0.9 for x in theirs])
    assert tests["ACC"] == paired_test(
        [(x + 0.8) / 2 for x in ours], [(x + 0.9) / 2 for x in theirs]
    )


def test_what_is_undefined_has_no_pairs(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], [0, 1], baseline="ber")
    for method in ("ber", "drl"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, [[0.9]])
    tests = statistics_of(tmp_path)["drl"].tests
    assert tests["BWT"] == PairedTest(None, None, None)
    assert tests["ACC"].difference == Estimate(0.0, 0.0, 2)


def test_without_a_baseline_nothing_is_tested(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], [0, 1], baseline=None)
    for method in ("ber", "drl"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, two_by_two(0.5 + seed / 10))
    assert not any(each.tests for each in statistics_of(tmp_path).values())


def test_intransigence_is_against_the_best_mean_of_the_methods_compared(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0, 1])
    # Just after learning: a has 0.9 on the first experience, b 0.8 on average on the second.
    write_result(tmp_path, "a", 0, [[0.8, 0.1], [0.5, 0.6]])
    write_result(tmp_path, "a", 1, [[1.0, 0.1], [0.5, 0.6]])
    write_result(tmp_path, "b", 0, [[0.7, 0.1], [0.5, 0.7]])
    write_result(tmp_path, "b", 1, [[0.7, 0.1], [0.5, 0.9]])
    found = statistics_of(tmp_path)
    a, b = (found[name].metrics["intransigence"] for name in "ab")
    # a: (0.1 + 0.2) / 2 and (-0.1 + 0.2) / 2; b: (0.2 + 0.1) / 2 and (0.2 - 0.1) / 2.
    for each in (a, b):
        assert each == Estimate(pytest.approx(0.1), pytest.approx(0.05 * 2**0.5), 2)


def test_numbers_undefined_for_one_experience_are_empty(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a"], [0, 1], baseline="a")
    for seed in (0, 1):
        write_result(tmp_path, "a", seed, [[0.9]])
    metrics = statistics_of(tmp_path)["a"].metrics
    assert metrics["ACC"] == Estimate(pytest.approx(0.9), 0.0, 2)
    assert [name for name, value in metrics.items() if value is None] == [
        "BWT",
        "FWT",
        "forgetting",
    ]


def test_a_method_with_only_failures_has_no_estimates(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0], baseline="a")
    write_failure(tmp_path, "a", 0, "out of memory")
    write_result(tmp_path, "b", 0, two_by_two(0.5))
    a = statistics_of(tmp_path)["a"]
    assert set(a.metrics.values()) == {None}
    assert set(a.seconds.values()) == {None}
