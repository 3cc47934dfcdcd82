"""Claims and their one-sided tests, against scipy called directly and a person's reading."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from avalanche_ext.config.sections import CLAIMED_METRICS
from avalanche_ext.report.claims import claim_tests
from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.statistics import LOWER_IS_BETTER, METRICS, method_statistics
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import Claim, ResultsError
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """`er` and `gmed` with three seeds in common, `never` with none; two claims."""
    claims = [("gmed", "er"), ("er", "never")]
    write_experiment(tmp_path, ["er", "gmed", "never"], range(5), claims=claims)
    for seed, (lower, higher) in enumerate([(0.5, 0.6), (0.6, 0.8), (0.4, 0.7), (0.9, None)]):
        write_result(tmp_path, "er", seed, two_by_two(lower))
        if higher is not None:
            write_result(tmp_path, "gmed", seed, two_by_two(higher))
    write_failure(tmp_path, "gmed", 3, "out of memory")
    write_result(tmp_path, "gmed", 4, two_by_two(0.1))
    return tmp_path


def test_claims_are_tested_in_acc_over_the_seeds_both_finished(directory: Path) -> None:
    first, second = claim_tests(read_results(directory))
    # ACC is the mean of the last row, so half of each difference of its first entry remains.
    assert (first.claim, second.claim) == (Claim("gmed", "er"), Claim("er", "never"))
    assert first.test.difference == Estimate(pytest.approx(0.1), pytest.approx(0.05), 3)
    assert first.test.t_test == pytest.approx(
        stats.ttest_1samp([0.05, 0.1, 0.15], 0, alternative="greater").pvalue
    )
    assert (second.test.difference, second.test.t_test) == (None, None)


def test_a_claim_that_fails_has_a_large_p(tmp_path: Path) -> None:
    claims = [("gmed", "er"), ("er", "gmed")]
    write_experiment(tmp_path, ["er", "gmed"], range(3), claims=claims)
    for seed, (lower, higher) in enumerate([(0.5, 0.6), (0.6, 0.8), (0.4, 0.7)]):
        write_result(tmp_path, "er", seed, two_by_two(lower))
        write_result(tmp_path, "gmed", seed, two_by_two(higher))
    holds, fails = (each.test for each in claim_tests(read_results(tmp_path)))
    assert fails.difference.mean == pytest.approx(-holds.difference.mean)
    assert fails.t_test == pytest.approx(1 - holds.t_test)
    # Two claims: the smaller p is doubled.
    assert holds.t_test_holm == pytest.approx(2 * holds.t_test)
    assert fails.t_test_holm == fails.t_test


def text_of(directory: Path) -> str:
    results = read_results(directory)
    return text_table(results, method_statistics(results))


def test_the_report_has_a_row_for_each_claim(directory: Path) -> None:
    text = text_of(directory)
    lines = text[text.index("Claims: ") :].splitlines()
    assert lines[0] == (
        "Claims: one-sided tests in ACC or the named metric, paired by seed; Holm p: corrected "
        "for the number of claims"
    )
    # Three differences of 0.05, 0.1 and 0.15: t = 2 √3 with 2 degrees of freedom.
    assert [re.split(r" {2,}", line) for line in lines[1:4]] == [
        ["claim", "difference", "d", "wins", "t-test p", "Holm p"],
        ["gmed > er", "+0.100 ± 0.050", "+2.0", "3/3", "0.037", "0.037"],
        ["er > never", "–", "–", "–", "–", "–"],
    ]
    assert lines[4] == (
        "Caution: too few pairs for reliable tests and intervals (fewer than 5 seeds: gmed > er "
        "(3), er > never (0))."
    )


def test_claims_without_any_pair_are_dashes_and_a_sentence(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["er", "gmed"], [0, 1], claims=[("gmed", "er")])
    write_result(tmp_path, "er", 0, two_by_two(0.5))
    write_result(tmp_path, "gmed", 1, two_by_two(0.6))
    text = text_of(tmp_path)
    lines = text[text.index("Claims: ") :].split("\n\n")[0].splitlines()
    assert [re.split(r" {2,}", line) for line in lines[1:3]] == [
        ["claim", "difference"],
        ["gmed > er", "–"],
    ]
    assert lines[3:] == ["No tests: no seed has values of both methods."]
    assert "wins: " not in text


def test_a_claim_may_name_its_metric(tmp_path: Path) -> None:
    metrics = ["ACC", "instance_accuracy", "BWT", "FWT", "learning_accuracy"]
    claims = [("gmed", "er", metric) for metric in metrics]
    write_experiment(tmp_path, ["er", "gmed"], range(3), claims=claims)
    sizes = [100, 300]
    for seed, (lower, higher) in enumerate([(0.5, 0.6), (0.6, 0.8), (0.4, 0.7)]):
        R = [[0.9, 0.1], [lower, 0.9]]
        write_result(tmp_path, "er", seed, R, test_sizes=sizes)
        R = [[0.8, 0.1 + seed / 10], [higher, 0.9]]
        write_result(tmp_path, "gmed", seed, R, test_sizes=sizes)
    differences = {
        "ACC": [0.05, 0.1, 0.15],
        "instance_accuracy": [0.025, 0.05, 0.075],
        "BWT": [0.2, 0.3, 0.4],
        "FWT": [0.0, 0.1, 0.2],
        "learning_accuracy": [-0.05, -0.05, -0.05],
    }
    for each in claim_tests(read_results(tmp_path)):
        expected = differences[each.claim.metric]
        assert each.test.difference is not None
        assert each.test.difference.mean == pytest.approx(np.mean(expected))
        assert each.test.difference.std == pytest.approx(np.std(expected, ddof=1), abs=1e-12)
    text = text_of(tmp_path)
    for row in ("gmed > er  ", "gmed > er in instance_accuracy  ", "gmed > er in BWT  "):
        assert f"\n{row}" in text
    assert "instance_accuracy: accuracy over the pooled test samples" in " ".join(text.split())


def test_pairs_without_the_metric_are_left_out(tmp_path: Path) -> None:
    claims = [("gmed", "er", "instance_accuracy"), ("gmed", "er", "ACC")]
    write_experiment(tmp_path, ["er", "gmed"], range(3), claims=claims)
    for method, last in (("er", 0.5), ("gmed", 0.6)):
        for seed in range(3):
            write_result(tmp_path, method, seed, two_by_two(last))
    write_result(tmp_path, "er", 1, two_by_two(0.5), test_sizes=None)
    over_instances, in_acc = (each.test for each in claim_tests(read_results(tmp_path)))
    assert (over_instances.n_pairs, in_acc.n_pairs) == (2, 3)


def test_claims_are_about_metrics_of_the_report() -> None:
    assert {*CLAIMED_METRICS} <= {*METRICS}
    assert not {*CLAIMED_METRICS} & {*LOWER_IS_BETTER}


def test_claims_come_between_the_comparisons_and_the_papers_numbers(tmp_path: Path) -> None:
    published = {"reference": "A paper", "ACC": {"er": {"mean": 0.7}}}
    write_experiment(
        tmp_path, ["er", "gmed"], [0], baseline="er", published=published, claims=[("gmed", "er")]
    )
    for method in ("er", "gmed"):
        write_result(tmp_path, method, 0, two_by_two(0.5))
    text = text_of(tmp_path)
    order = [text.index(part) for part in ("BWT against er", "Claims: ", "Compared with A paper")]
    assert order == sorted(order)


@pytest.mark.parametrize("claims", [None, []])
def test_without_claims_there_is_no_section(
    tmp_path: Path, claims: list[tuple[str, str]] | None
) -> None:
    write_experiment(tmp_path, ["er"], [0], claims=claims)
    write_result(tmp_path, "er", 0, two_by_two(0.5))
    assert "Claims" not in text_of(tmp_path)


def test_a_claim_about_no_method_here_is_refused(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["er"], [0], claims=[("gmed", "er")])
    with pytest.raises(ResultsError, match="claims: gmed > er: no method 'gmed' here"):
        text_of(tmp_path)


def test_a_claim_about_no_metric_here_is_refused(tmp_path: Path) -> None:
    write_experiment(tmp_path, ["er", "gmed"], [0], claims=[("gmed", "er", "speed")])
    with pytest.raises(ResultsError, match="claims: gmed > er in speed: no metric 'speed' here"):
        text_of(tmp_path)
