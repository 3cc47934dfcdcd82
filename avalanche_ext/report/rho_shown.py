"""ρ-spectra in the report: two tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.estimates import estimate
from avalanche_ext.report.layout import (
    NONE,
    aligned,
    number,
    p_value,
    plus_minus,
    section,
    wrapped,
)
from avalanche_ext.report.rho import CORRELATED, RhoRun, RhoRuns, correlation_with, rho_points
from avalanche_ext.report.style import chosen_on_test, looks, measured_on, set_title, tidy
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTE = (
    "ρ: KL(uniform ‖ normalised singular values) of the hidden representations (Roth et al., "
    "2020). Singular values below the machine precision of the data times the largest one are "
    "raised to that bound; in use: the number of directions above it; ρ in use: ρ over these "
    "directions only; into a layer: ρ of its inputs, or of its outputs if the YAML names layers."
)
_CORRELATED_NOTE = (
    "Over the final models of all runs, except those trained iid. The p-values assume independent "
    "runs, although runs of the same method are similar."
)


def rho_text(rho: RhoRuns) -> str:
    """Return the report's section on ρ: tables of methods and of correlations; "" without ρ."""
    if not rho.methods:
        return ""
    note = " ".join([_CORRELATED_NOTE, *(f"{each}." for each in chosen_on_test(rho.results))])
    published = rho.published and rho.results.published
    beside = f", compared with {published['reference']}" if published else ""
    lines = [
        "ρ-spectrum of the representations after the last experience, mean ± std over seeds",
        *aligned(_method_rows(rho)),
        "",
        *wrapped(_NOTE),
        "",
        f"Correlation of ρ with each metric{beside}",
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
    """Draw a panel per metric, with a point per run that defines it and a colour per method.

    Args:
        rho: The experiment's ρ-spectra.

    Returns:
        A figure without a window; None if no run has a point.
    """
    from matplotlib.figure import Figure

    from avalanche_ext.report.series import Series

    look = looks(rho.shown)
    drawn = {metric: found for metric in CORRELATED if (found := rho_points(rho, metric))}
    if not drawn:
        return None
    figure = Figure(figsize=(4.2 * len(drawn) + 1.4, 4.2), layout="constrained")
    title = f"{rho.results.name}{measured_on(rho.results)}: one point per run"
    set_title(figure, title, chosen_on_test(rho.results))
    panels = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axes, (metric, methods) in zip(panels, drawn.items(), strict=True):
        for name, pairs in methods.items():
            x = [run.rho for run, _ in pairs]
            y = [value for _, value in pairs]
            texts = [
                f"{name}: ρ {number(a)}, {metric} {number(b)}" for a, b in zip(x, y, strict=True)
            ]
            style = {"ls": "", "alpha": 0.8, "label": name, **look[name]}
            axes.add_line(Series(x, y, texts, **style))
        axes.autoscale_view()
        all_runs = correlation_with(rho, metric)
        if all_runs.pearson:
            over = count(all_runs.n, "run")
            axes.set_title(f"Pearson {all_runs.pearson[0]:+.2f} over {over}")
        axes.set_xlabel("ρ after the last experience")
        axes.set_ylabel(metric)
        tidy(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure
