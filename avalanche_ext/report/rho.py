"""ρ-spectra of representations and how ρ goes with metrics: the report's tables and picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.estimates import DECIMALS, estimate
from avalanche_ext.report.figures import chosen_on_test, look, measured_on, set_title, tidy
from avalanche_ext.report.layout import (
    NONE,
    aligned,
    number,
    p_value,
    plus_minus,
    section,
    wrapped,
)
from avalanche_ext.results.exhibits import RhoSpectra
from avalanche_ext.results.experiment import ExperimentResults, read_exhibits
from avalanche_ext.results.record import ResultsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CORRELATED = ("ACC", "forgetting", "intransigence")
"""The metrics that ρ is correlated with, those of Chen et al. (2020), Table 4."""

FEWEST_FOR_CORRELATION = 3
"""Two points always lie on a line."""

_NOTE = (
    "ρ: KL(uniform ‖ normalised singular values) of hidden representations (Roth et al., 2020); "
    "singular values below the machine precision of the data times the largest are raised to that; "
    "in use: the directions above that bound, and ρ over these alone; into a layer: ρ of its "
    "inputs, or of its outputs where layers were named."
)
_CORRELATED_NOTE = (
    "Over the final models of all runs, except of methods trained iid. p-values treat runs as "
    "independent, although runs of one method are alike."
)
_SWEPT_NOTE = "Of a swept method, only the runs of its best setting count."


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
        """ρ over the directions in use alone."""
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
        methods: The runs of `shown` that have measured ρ, by method and seed.
        unreadable: What is wrong with files, by their paths in the experiment's folder.
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
        pearson: Pearson's coefficient; None where it is undefined.
        spearman: Spearman's, which is Pearson's of the ranks; None where it is undefined.
        n: How many runs define both numbers.
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
        The coefficients; None for fewer than three pairs, and where either number is constant.
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


def _points(rho: RhoRuns, metric: str) -> dict[str, list[tuple[RhoRun, float]]]:
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
    """Correlate ρ, or ρ over the directions in use alone, with a metric over all runs."""
    pairs = [pair for found in _points(rho, metric).values() for pair in found]
    return correlation(
        [run.alive_rho if alive_only else run.rho for run, _ in pairs],
        [value for _, value in pairs],
    )


def rho_text(rho: RhoRuns) -> str:
    """The report's section on ρ: a table of methods and one of correlations; "" without ρ."""
    if not rho.methods:
        return ""
    note = " ".join([_CORRELATED_NOTE, *[_SWEPT_NOTE] * bool(rho.results.sweeps)])
    published = rho.published and rho.results.published
    beside = f", beside {published['reference']}" if published else ""
    lines = [
        "ρ-spectrum of the representations after the last experience, mean ± std over seeds",
        *aligned(_method_rows(rho)),
        "",
        *wrapped(_NOTE),
        "",
        f"Correlation of ρ with metrics{beside}",
        *aligned(_correlation_rows(rho)),
        *wrapped(note),
    ]
    return section(lines)


def _method_rows(rho: RhoRuns) -> Iterator[list[str]]:
    layers = dict.fromkeys(
        layer for runs in rho.methods.values() for run in runs.values() for layer in run.layers
    )
    shown = [*layers] if len(layers) > 1 else []
    yield ["method", "runs", "ρ", "in use", "ρ in use", *(f"into {layer}" for layer in shown)]
    for name, runs in rho.methods.items():
        defined = [run for run in runs.values() if np.isfinite(run.rho)]
        of_layers = [[run.layers.get(layer, np.nan) for run in defined] for layer in shown]
        yield [
            name,
            str(len(defined)),
            _mean([run.rho for run in defined]),
            _in_use(defined),
            _mean([run.alive_rho for run in defined]),
            *map(_mean, of_layers),
        ]


def _mean(values: Sequence[float], decimals: int = 3) -> str:
    return plus_minus(estimate([value for value in values if np.isfinite(value)]), decimals)


def _in_use(runs: Sequence[RhoRun]) -> str:
    """The mean number of directions in use, and the number of all."""
    if not runs:
        return NONE
    last = [(int(run.spectra.n_alive[-1]), int(run.spectra.n_directions[-1])) for run in runs]
    of = "/".join(map(str, sorted({n for _, n in last})))
    return f"{_mean([n_alive for n_alive, _ in last], 1)} of {of}"


def _correlation_rows(rho: RhoRuns) -> Iterator[list[str]]:
    heading = ["metric", "runs", "Pearson", "p", "Spearman", "p", "Pearson of ρ in use"]
    yield [*heading, *["published"] * bool(rho.published)]
    for metric in CORRELATED:
        found = correlation_with(rho, metric)
        in_use = correlation_with(rho, metric, alive_only=True)
        row = [metric, str(found.n)]
        for pair in (found.pearson, found.spearman):
            row += [_coefficient(pair), p_value(pair and pair[1])]
        row.append(_coefficient(in_use.pearson))
        if rho.published:
            theirs = rho.published.get(metric)
            row.append(NONE if theirs is None else number(theirs, signed=True))
        yield row


def _coefficient(pair: tuple[float, float] | None) -> str:
    return NONE if pair is None else number(pair[0], signed=True)


def rho_figure(rho: RhoRuns) -> Figure | None:
    """A panel for each metric, with a point for each run that defines it and a colour a method.

    Args:
        rho: The experiment's ρ-spectra.

    Returns:
        A figure without a window; None where no run has a point.
    """
    from matplotlib.figure import Figure

    from avalanche_ext.report.series import Series

    places = {method.name: place for place, method in enumerate(rho.shown.methods)}
    drawn = {metric: found for metric in CORRELATED if (found := _points(rho, metric))}
    if not drawn:
        return None
    figure = Figure(figsize=(4.2 * len(drawn) + 1.4, 4.2), layout="constrained")
    title = f"{rho.results.name}{measured_on(rho.results)}: a point for each run"
    set_title(figure, title, chosen_on_test(rho.results))
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (metric, methods) in zip(panels, drawn.items(), strict=True):
        for name, pairs in methods.items():
            x = [run.rho for run, _ in pairs]
            y = [value for _, value in pairs]
            texts = [
                f"{name}: ρ {number(a)}, {metric} {number(b)}" for a, b in zip(x, y, strict=True)
            ]
            style = {"ls": "", "alpha": 0.8, "label": name, **look(places[name])}
            axes.add_line(Series(x, y, texts, **style))
        axes.autoscale_view()
        pearson = correlation_with(rho, metric).pearson
        axes.set_title(f"Pearson {pearson[0]:+.2f}" if pearson else "")
        axes.set_xlabel("ρ after the last experience")
        axes.set_ylabel(metric)
        tidy(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure
