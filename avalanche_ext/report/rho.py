"""ρ-spectra of representations, and the correlation of ρ with metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.estimates import DECIMALS
from avalanche_ext.results.exhibits import RhoSpectra
from avalanche_ext.results.experiment import ExperimentResults, read_exhibits
from avalanche_ext.results.record import ResultsError

CORRELATED = ("ACC", "forgetting", "intransigence")
"""The metrics that ρ is correlated with, those of Chen et al. (2020), Table 4."""

FEWEST_FOR_CORRELATION = 3
"""Two points always lie on a line."""


@dataclass(frozen=True)
class RhoRun:
    """A run's ρ-spectra, its metrics (None where one is undefined), and whether it was iid."""

    spectra: RhoSpectra
    metrics: Mapping[str, float | None]
    is_iid: bool

    @property
    def rho(self) -> float:
        """ρ over all directions after the last experience; nan where it is undefined."""
        return float(self.spectra.rho[-1])

    @property
    def alive_rho(self) -> float:
        """ρ over only the directions in use."""
        return float(self.spectra.alive_rho[-1])

    @property
    def layers(self) -> dict[str, float]:
        """ρ of each layer by its name, nan where it has none."""
        spectra = self.spectra
        return dict(zip(spectra.layer.tolist(), spectra.layer_rho[-1].tolist(), strict=True))


@dataclass(frozen=True)
class RhoRuns:
    """The ρ-spectra of an experiment.

    Attributes:
        results: The experiment, with all settings of swept methods.
        shown: The experiment with the best setting of each swept method.
        methods: The runs of `shown` with ρ, by method and seed.
        unreadable: The errors of files, by their paths in the experiment's folder.
    """

    results: ExperimentResults
    shown: ExperimentResults
    methods: Mapping[str, Mapping[int, RhoRun]]
    unreadable: Mapping[str, str]

    @property
    def published(self) -> Mapping[str, float]:
        """A paper's correlations by metric."""
        return (self.results.published or {}).get("rho_correlation") or {}


def read_rho(results: ExperimentResults) -> RhoRuns:
    """Read the ρ-spectra of every finished run that has any, and join them to its metrics.

    The metrics are those of the tables, in which intransigence is against the best of all settings.

    Raises:
        ResultsError: If `published.rho_correlation` names a metric that is not correlated.
    """
    shown = results.with_best_settings()
    found = read_exhibits(shown, RhoSpectra)
    metrics = results.run_metrics()
    cells = {method.name: method.cells for method in shown.methods}
    methods = {
        name: {
            seed: RhoRun(spectra, metrics[name][seed], cells[name][seed].is_iid)
            for seed, spectra in runs.items()
        }
        for name, runs in found.methods.items()
    }
    rho = RhoRuns(results, shown, methods, found.unreadable)
    for metric in rho.published:
        if metric not in CORRELATED:
            raise ResultsError(f"published.rho_correlation.{metric}: no such metric here")
    return rho


@dataclass(frozen=True)
class Correlation:
    """The correlation of two numbers over n runs, each coefficient with its two-sided p-value.

    Attributes:
        pearson: Pearson's coefficient; None if it is undefined.
        spearman: Spearman's, which is Pearson's of the ranks; None if it is undefined.
        n: Number of runs that define both numbers.
    """

    pearson: tuple[float, float] | None
    spearman: tuple[float, float] | None
    n: int


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Correlate paired numbers.

    Args:
        x: One number of each run, (n,).
        y: The other number, (n,).

    Returns:
        The coefficients; None for fewer than three pairs, and if either number is constant.
    """
    first, second = (np.round(np.array(values), DECIMALS) for values in (x, y))
    n = len(first)
    if n < FEWEST_FOR_CORRELATION or not (np.ptp(first) and np.ptp(second)):
        return Correlation(None, None, n)
    from scipy import stats

    pearson, spearman = stats.pearsonr(first, second), stats.spearmanr(first, second)
    return Correlation(
        (float(pearson.statistic), float(pearson.pvalue)),
        (float(spearman.statistic), float(spearman.pvalue)),
        n,
    )


def rho_points(rho: RhoRuns, metric: str) -> dict[str, list[tuple[RhoRun, float]]]:
    """Return the runs that define ρ and a metric, by method, each with the metric's value.

    Methods trained iid are left out, since they do not learn one experience at a time.
    """
    found = {
        name: [
            (run, value)
            for run in runs.values()
            if not run.is_iid
            and np.isfinite(run.rho)
            and (value := run.metrics[metric]) is not None
        ]
        for name, runs in rho.methods.items()
    }
    return {name: pairs for name, pairs in found.items() if pairs}


def correlation_with(rho: RhoRuns, metric: str, *, alive_only: bool = False) -> Correlation:
    """Correlate ρ, or ρ over only the directions in use, with a metric over all runs."""
    pairs = [pair for found in rho_points(rho, metric).values() for pair in found]
    return correlation(
        [run.alive_rho if alive_only else run.rho for run, _ in pairs],
        [value for _, value in pairs],
    )
