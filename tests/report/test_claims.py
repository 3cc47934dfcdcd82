"""Claims and their one-sided tests, against scipy called directly and a person's reading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from avalanche_ext.config.sections import CLAIMED_METRICS
from avalanche_ext.report.claims import ClaimTest, claim_test, claim_tests
from avalanche_ext.report.statistics import METRICS, Estimate, method_statistics
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.record import Claim, ResultsError
from tests.results.trees import two_by_two, write_experiment, write_failure, write_result

CLAIM = Claim("gmed", "er")
HIGHER = [0.88, 0.87, 0.91, 0.86, 0.90, 0.885]
LOWER = [0.86, 0.86, 0.87, 0.865, 0.85, 0.855]


@pytest.mark.parametrize("n", [2, 3, 6])
def test_p_is_scipys_for_greater(n: int) -> None:
    higher, lower = HIGHER[:n], LOWER[:n]
    expected = stats.ttest_rel(higher, lower, alternative="greater").pvalue
    assert claim_test(CLAIM, higher, lower).t_test == pytest.approx(expected, rel=1e-6)


def test_p_is_half_the_two_sided_one_if_the_claim_holds_and_the_rest_of_1_if_not() -> None:
    two_sided = stats.ttest_rel(HIGHER, LOWER).pvalue
    holds, fails = claim_test(CLAIM, HIGHER, LOWER), claim_test(CLAIM, LOWER, HIGHER)
    assert holds.t_test == pytest.approx(two_sided / 2)
    assert fails.t_test == pytest.approx(1 - two_sided / 2)
    assert holds.difference is not None
    assert fails.difference is not None
    assert holds.difference.mean == pytest.approx(0.145 / 6)
    assert fails.difference.mean == pytest.approx(-0.145 / 6)


@pytest.mark.parametrize(
    ("higher", "lower", "p"),
    [
        ([], [], None),
        ([0.9], [0.8], None),
        ([0.9], [0.9], None),
        # No difference supports no claim.
        ([0.9, 0.8], [0.9, 0.8], 1.0),
        ([0.3, 0.8], [0.1 + 0.2, 0.8], 1.0),
        # One and the same difference has no variance, whichever its sign.
        ([0.9, 0.8], [0.8, 0.7], None),
        ([0.8, 0.7], [0.9, 0.8], None),
    ],
)
def test_degenerate_pairs(higher: Sequence[float], lower: Sequence[float], p: float | None) -> None:
    assert claim_test(CLAIM, higher, lower).t_test == p


def test_values_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="there are 6 and 5"):
        claim_test(CLAIM, HIGHER, LOWER[:5])


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
    assert first == ClaimTest(
        claim=Claim("gmed", "er"),
        difference=Estimate(pytest.approx(0.1), pytest.approx(0.05), 3),
        t_test=pytest.approx(stats.ttest_1samp([0.05, 0.1, 0.15], 0, alternative="greater").pvalue),
    )
    assert second == ClaimTest(Claim("er", "never"), None, None)


def text_of(directory: Path) -> str:
    results = read_results(directory)
    return text_table(results, method_statistics(results))


def test_the_report_has_a_row_for_each_claim(directory: Path) -> None:
    text = text_of(directory)
    lines = text[text.index("Claims: ") :].splitlines()
    assert lines[0] == (
        "Claims: higher in ACC or the metric named, one-sided paired t-test (not corrected for "
        "their number)"
    )
    # Three differences of 0.05, 0.1 and 0.15: t = 2 √3 with 2 degrees of freedom.
    assert [re.split(r" {2,}", line) for line in lines[1:4]] == [
        ["claim", "pairs", "difference", "p"],
        ["gmed > er", "3", "+0.100 ± 0.050", "0.037"],
        ["er > never", "0", "–", "–"],
    ]


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
    for test in claim_tests(read_results(tmp_path)):
        expected = differences[test.claim.metric]
        assert test.difference is not None
        assert test.difference.mean == pytest.approx(np.mean(expected))
        assert test.difference.std == pytest.approx(np.std(expected, ddof=1), abs=1e-12)
    text = text_of(tmp_path)
    for row in ("gmed > er  ", "gmed > er in instance_accuracy  ", "gmed > er in BWT  "):
        assert f"\n{row}" in text
    assert "instance_accuracy: over all test samples" in text


def test_pairs_without_the_metric_are_left_out(tmp_path: Path) -> None:
    claims = [("gmed", "er", "instance_accuracy"), ("gmed", "er", "ACC")]
    write_experiment(tmp_path, ["er", "gmed"], range(3), claims=claims)
    for method, last in (("er", 0.5), ("gmed", 0.6)):
        for seed in range(3):
            write_result(tmp_path, method, seed, two_by_two(last))
    write_result(tmp_path, "er", 1, two_by_two(0.5), test_sizes=None)
    over_instances, in_acc = claim_tests(read_results(tmp_path))
    assert over_instances.difference is not None
    assert in_acc.difference is not None
    assert (over_instances.difference.n, in_acc.difference.n) == (2, 3)


def test_claims_are_about_metrics_of_the_report() -> None:
    assert {*METRICS} - {*CLAIMED_METRICS} == {"forgetting", "intransigence"}


def test_claims_come_between_the_comparisons_and_the_papers_numbers(tmp_path: Path) -> None:
    published = {"reference": "A paper", "ACC": {"er": {"mean": 0.7}}}
    write_experiment(
        tmp_path, ["er", "gmed"], [0], baseline="er", published=published, claims=[("gmed", "er")]
    )
    for method in ("er", "gmed"):
        write_result(tmp_path, method, 0, two_by_two(0.5))
    text = text_of(tmp_path)
    order = [text.index(part) for part in ("BWT against er", "Claims: ", "Beside A paper")]
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
