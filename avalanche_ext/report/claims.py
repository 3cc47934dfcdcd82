"""Claims that one method is better than another: their tests, and the report's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from avalanche_ext.report.layout import aligned, p_value, plus_minus
from avalanche_ext.report.statistics import (
    METRICS,
    Estimate,
    estimate,
    paired_differences,
    paired_values,
    t_test,
)
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.record import Claim, ResultsError


@dataclass(frozen=True)
class ClaimTest:
    """A claim's two methods, compared in the claim's metric over the seeds that define it for both.

    Attributes:
        claim: The claim.
        difference: Mean and standard deviation of the paired differences, positive where the claim
            holds; None without pairs.
        t_test: One-sided p-value of the paired t-test, reported by papers that expect one method
            to be better (Jin et al., 2021); None where it is undefined.
    """

    claim: Claim
    difference: Estimate | None
    t_test: float | None


def claim_test(claim: Claim, higher: Sequence[float], lower: Sequence[float]) -> ClaimTest:
    """Test whether paired values of one method have the higher mean.

    Where all differences are 0, nothing supports the claim, and p is 1. Where all are the same
    other number, there is no variance to compare it with, and no p.

    Args:
        claim: The claim.
        higher: The values of the method that is claimed to be better, one per seed, (n,).
        lower: The other method's for the same seeds, (n,).

    Raises:
        ValueError: If the two differ in length.
    """
    differences = paired_differences(higher, lower)
    return ClaimTest(claim, estimate(differences.tolist()), t_test(differences, "greater"))


def claim_tests(results: ExperimentResults) -> list[ClaimTest]:
    """Test every claim, in the order of the configuration.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    methods = {method.name: method for method in results.methods}
    for claim in results.claims:
        for name in (claim.higher, claim.lower):
            if name not in methods:
                raise ResultsError(f"claims: {_text(claim)}: no method '{name}' here")
        if claim.metric not in METRICS:
            raise ResultsError(f"claims: {_text(claim)}: no metric '{claim.metric}' here")
    return [
        claim_test(claim, *paired_values(methods[claim.higher], methods[claim.lower], claim.metric))
        for claim in results.claims
    ]


def claims_section(results: ExperimentResults) -> Iterator[list[str]]:
    """Yield the lines of the report's table of claims, if there are any.

    Raises:
        ResultsError: If a claim names an unknown method or metric.
    """
    if not results.claims:
        return
    rows = [["claim", "pairs", "difference", "p"]]
    for test in claim_tests(results):
        pairs = str(test.difference.n) if test.difference else "0"
        difference = plus_minus(test.difference, signed=True)
        rows.append([_text(test.claim), pairs, difference, p_value(test.t_test)])
    yield [
        "Claims: higher in ACC or the metric named, one-sided paired t-test (not corrected for "
        "their number)",
        *aligned(rows),
    ]


def _text(claim: Claim) -> str:
    metric = "" if claim.metric == "ACC" else f" in {claim.metric}"
    return f"{claim.higher} > {claim.lower}{metric}"
