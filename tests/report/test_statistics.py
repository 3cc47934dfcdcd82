"""The numbers of methods: means, deviations, and tests over the seeds that both have finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from avalanche_ext.metrics.curves import CURVE_METRICS
from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.paired import PairedTest, corrected, paired_test
from avalanche_ext.report.statistics import MethodStatistics, method_statistics
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result


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
    assert found["er"].tests == dict.fromkeys(["ACC", "BWT"], PairedTest(None))


def test_bwt_is_tested_as_acc_is(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], list(range(6)), baseline="ber")
    ours, theirs = [0.7, 0.75, 0.8, 0.7, 0.72, 0.9], [0.5, 0.6, 0.4, 0.55, 0.71, 0.62]
    for seed, (our_last, their_last) in enumerate(zip(ours, theirs, strict=True)):
        write_result(tmp_path, "ber", seed, two_by_two(their_last))
        write_result(tmp_path, "drl", seed, two_by_two(our_last, learned=0.8))
    tests = statistics_of(tmp_path)["drl"].tests
    # BWT is the change of the first experience's accuracy, from 0.8 or 0.9 to the last.
    expected = {
        "BWT": paired_test([x - 0.8 for x in ours], [x - 0.9 for x in theirs]),
        "ACC": paired_test([(x + 0.8) / 2 for x in ours], [(x + 0.9) / 2 for x in theirs]),
    }
    for metric, test in expected.items():
        assert tests[metric] == corrected({"drl": test})["drl"]


def test_what_is_undefined_has_no_pairs(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl"], [0, 1], baseline="ber")
    for method in ("ber", "drl"):
        for seed in (0, 1):
            write_result(tmp_path, method, seed, [[0.9]])
    tests = statistics_of(tmp_path)["drl"].tests
    assert tests["BWT"] == PairedTest(None)
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
        *CURVE_METRICS,
    ]


def test_a_method_with_only_failures_has_no_estimates(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0], baseline="a")
    write_failure(tmp_path, "a", 0, "out of memory")
    write_result(tmp_path, "b", 0, two_by_two(0.5))
    a = statistics_of(tmp_path)["a"]
    assert set(a.metrics.values()) == {None}
    assert set(a.seconds.values()) == {None}


def test_p_values_are_corrected_for_the_methods_of_the_table(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["ber", "drl", "er"], list(range(6)), baseline="ber")
    lasts = {
        "ber": [0.5, 0.6, 0.4, 0.55, 0.71, 0.62],
        "drl": [0.7, 0.75, 0.8, 0.7, 0.72, 0.9],
        "er": [0.45, 0.61, 0.4, 0.5, 0.7, 0.6],
    }
    for method, values in lasts.items():
        for seed, last in enumerate(values):
            write_result(tmp_path, method, seed, two_by_two(last))
    found = statistics_of(tmp_path)
    drl, er = (found[name].tests["ACC"] for name in ("drl", "er"))
    assert drl.t_test < er.t_test
    assert drl.t_test_holm == pytest.approx(2 * drl.t_test)
    assert er.t_test_holm == er.t_test
    assert er.wilcoxon_holm >= er.wilcoxon


def test_memory_is_averaged_where_runs_have_counted_it(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["a", "b"], [0, 1])
    write_result(tmp_path, "a", 0, two_by_two(0.5), memory={"peak": 1000, "kept": 30})
    write_result(tmp_path, "a", 1, two_by_two(0.5), memory={"peak": 3000})
    write_result(tmp_path, "b", 0, two_by_two(0.5))
    found = statistics_of(tmp_path)
    assert found["a"].memory["peak"].mean == 2000
    assert found["a"].memory["kept"] == Estimate(30, None, 1)
    assert found["b"].memory == {"peak": None, "kept": None}
