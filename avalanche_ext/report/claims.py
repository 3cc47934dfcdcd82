"""Claims that one method is better than another: their tests, and the report's table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from avalanche_ext.report.comparisons import comparison_columns, comparison_lines, on_tests
from avalanche_ext.report.paired import PairedTest, corrected, paired_test
from avalanche_ext.report.sheet import Column, Sheet
from avalanche_ext.report.statistics import METRICS, defined, pairs
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.record import Claim, ResultsError


@dataclass(frozen=True)
class ClaimTest:
    """A claim, and the test of its methods over the seeds for which both define the metric.

    Attributes:
        claim: The claim.
        test: One-sided tests, as in papers that expect one method to be better (Jin et al., 2021),
            corrected for the number of claims. The difference is positive if the claim holds; if
            all differences are 0, nothing supports it, and p is 1.
    """

    claim: Claim
    test: PairedTest


def claim_tests(results: ExperimentResults) -> list[ClaimTest]:
    """Test every claim, in the order of the configuration.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    methods = {method.name for method in results.methods}
    for claim in results.claims:
        for name in (claim.higher, claim.lower):
            if name not in methods:
                raise ResultsError(f"claims: {claim_text(claim)}: no method '{name}' here")
        if claim.metric not in METRICS:
            raise ResultsError(f"claims: {claim_text(claim)}: no metric '{claim.metric}' here")
    runs = results.run_metrics()
    values = {claim.metric: defined(runs, claim.metric) for claim in results.claims}
    tests = {
        claim: paired_test(
            *pairs(values[claim.metric][claim.higher], values[claim.metric][claim.lower]),
            "greater",
        )
        for claim in results.claims
    }
    return [ClaimTest(claim, test) for claim, test in corrected(tests).items()]


_TITLE = "Claims: one-sided tests in ACC or the named metric, paired by seed"
_HOLM = "Holm p: corrected for the number of claims"


def claims_sheets(results: ExperimentResults) -> Iterator[Sheet]:
    """Yield the table of claims, if there are any.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    if not results.claims:
        return
    tests = _by_text(results)
    yield Sheet(
        name=f"{results.name}-claims",
        title=_TITLE,
        caption=f"{results.name}. {_TITLE}",
        methods=[*tests],
        columns=[Column(title, cells) for title, cells in comparison_columns(tests)],
        notes=[f"{_HOLM}.", *on_tests(tests)],
        on_best="",
        absent=[],
        first="claim",
    )


def claims_section(results: ExperimentResults) -> Iterator[list[str]]:
    """Yield the lines of the report's table of claims, if there are any.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    if results.claims:
        yield [f"{_TITLE}; {_HOLM}", *comparison_lines("claim", _by_text(results))]


def _by_text(results: ExperimentResults) -> dict[str, PairedTest]:
    return {claim_text(each.claim): each.test for each in claim_tests(results)}


def claim_text(claim: Claim) -> str:
    """Return a claim as in the YAML."""
    metric = "" if claim.metric == "ACC" else f" in {claim.metric}"
    return f"{claim.higher} > {claim.lower}{metric}"
