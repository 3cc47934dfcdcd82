"""Gradients of pairs of samples: the report's table, and the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avalanche_ext.report.estimates import estimate
from avalanche_ext.report.layout import aligned, plus_minus, section, wrapped
from avalanche_ext.report.style import COLOURS, looks, set_title, tidy
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.exhibits import PAIR_KINDS, GradientDiversity
from avalanche_ext.results.experiment import Exhibits, ExperimentResults
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Diversities = Exhibits[GradientDiversity]


_COLUMNS = {
    "gradient_mean": "gradient cosine",
    "gradient_std": "std over pairs",
    "conflicting": "share below 0",
    "conflict_mean": "mean below 0",
    "representation_mean": "repr. cosine",
    "correlation": "correlation",
}
_NOTES = (
    "negative: pairs of samples from different classes; positive: from the same class. gradient "
    "cosine: mean cosine similarity of the gradients of the two cross-entropies; share below "
    "0: share of pairs whose gradients conflict; mean below 0: their mean cosine; repr. cosine: "
    "mean cosine similarity of the representations; correlation: Pearson correlation of the two "
    "cosines over pairs. The training time includes this analysis."
)

_CELLS = 60
"""Number of cells of the densities along each axis."""

_BARS = 40
"""Number of intervals of the distributions."""

_BINS = 20
"""Intervals of the representations' cosines in which the gradients' cosines are averaged."""

_FEWEST = 30
"""Minimum number of pairs in an interval for a mean."""

_FAINTEST = 1e-5
"""The share of pairs in a cell with the palest colour."""

_MEAN_COLOUR = COLOURS[1]


def diversities_text(diversities: Diversities, caveats: Sequence[str] = ()) -> str:
    """The report's section on the diversity of gradients; "" if there is none.

    Args:
        diversities: The runs' exhibits.
        caveats: Remarks on the runs that are shown.
    """
    if not diversities.methods:
        return ""
    lines = [
        "Gradient similarity of pairs of samples after the last experience, mean ± std over seeds",
        *aligned(_rows(diversities)),
        "",
        *wrapped(_NOTES),
        *(line for caveat in caveats for line in wrapped(f"{caveat}.")),
    ]
    return section(lines)


def _pooled_pairs(runs: Mapping[int, GradientDiversity], kind: str) -> Floats:
    """The cosines of gradients and of representations of the pairs of all runs, (2, n)."""
    pairs: Floats = np.concatenate([getattr(run, kind) for run in runs.values()], axis=1)
    return pairs


def _values_of(runs: Mapping[int, GradientDiversity], kind: str, number: str) -> list[float]:
    """A number after the last experience in each run that defines it."""
    values = [run.number(f"{kind}/{number}") for run in runs.values()]
    return [value for value in values if np.isfinite(value)]


def _rows(diversities: Diversities) -> Iterator[list[str]]:
    yield ["method", "runs", "pairs", *_COLUMNS.values()]
    for name, runs in diversities.methods.items():
        for kind in PAIR_KINDS:
            estimates = [estimate(_values_of(runs, kind, number)) for number in _COLUMNS]
            yield [name, str(len(runs)), kind, *map(plus_minus, estimates)]


def diversities_figure(
    diversities: Diversities, results: ExperimentResults, notes: Sequence[str] = ()
) -> Figure | None:
    """Draw cosines of gradients against those of representations, one column per method.

    All runs are pooled. Above are the densities of negative and of positive pairs, with the mean
    cosine of gradients along the cosine of representations. Below are the distributions of the
    gradients' cosines, one line per method.

    Args:
        diversities: The experiment's pairs.
        results: The experiment, whose order gives methods their colours.
        notes: Sentences below the title.

    Returns:
        A figure without a window; None if there is nothing to draw.
    """
    from matplotlib.figure import Figure

    if not diversities.methods:
        return None
    n_columns = len(diversities.methods)
    figure = Figure(figsize=(max(7.2, 3.1 * n_columns + 0.9), 8.6), layout="constrained")
    fewest, most = (f(map(len, diversities.methods.values())) for f in (min, max))
    runs = count(most, "run") if fewest == most else f"{fewest} to {count(most, 'run')}"
    title = f"{results.name}: pairs of samples after the last experience, {runs}"
    set_title(figure, title, notes)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(5.6, 2.6))[:, 0]
    _draw_densities(above, diversities)
    _draw_distributions(below, diversities, results)
    return figure


def _draw_densities(part: SubFigure, diversities: Diversities) -> None:
    """A row of panels for each kind of pairs, in the same axes and colours."""
    methods = diversities.methods
    grid = part.subplots(2, len(methods), sharex=True, sharey="row", squeeze=False)
    ranges = _ranges(methods)
    for row, kind in zip(grid, PAIR_KINDS, strict=True):
        for axes, (name, runs) in zip(row, methods.items(), strict=True):
            image = _draw_density(axes, runs, kind, ranges[kind])
            if kind == PAIR_KINDS[0]:
                axes.set_title(name)
            else:
                axes.set_xlabel("cosine of representations")
        row[0].set_ylabel(f"{kind} pairs:\ncosine of gradients")
        row[0].set_ylim(*ranges[kind][1])
    grid[0, 0].set_xlim(*ranges[PAIR_KINDS[0]][0])
    part.colorbar(image, ax=grid, label="share of pairs per cell", aspect=40)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    grid[0, 0].legend(handles, labels, loc="upper left", fontsize=8, frameon=False)


def _draw_density(
    axes: Axes,
    runs: Mapping[int, GradientDiversity],
    kind: str,
    ranges: tuple[tuple[float, float], ...],
) -> Any:
    from matplotlib.colors import LogNorm

    gradients, representations = _pooled_pairs(runs, kind)
    n_pairs = max(1, len(gradients))
    cells, x, y = np.histogram2d(representations, gradients, bins=_CELLS, range=ranges)
    shares = np.ma.masked_equal(cells.T / n_pairs, 0.0)
    norm = LogNorm(_FAINTEST, 1e-1, clip=True)
    image = axes.pcolormesh(x, y, shares, cmap="Blues", norm=norm, rasterized=True)
    axes.axhline(0.0, color="grey", lw=0.8)
    centres, means = _means_along(representations, gradients, ranges[0])
    axes.plot(centres, means, color=_MEAN_COLOUR, label="mean")
    correlations, conflicting = (
        _values_of(runs, kind, number) for number in ("correlation", "conflicting")
    )
    told = [
        f"{label} {np.mean(values):.2f}"
        for label, values in (("below 0:", conflicting), ("r =", correlations))
        if values
    ]
    axes.text(
        0.97, 0.03 if kind == PAIR_KINDS[1] else 0.97, "\n".join(told), transform=axes.transAxes,
        ha="right", va="bottom" if kind == PAIR_KINDS[1] else "top", fontsize=8,
    )  # fmt: skip
    tidy(axes)
    return image


def _draw_distributions(
    part: SubFigure, diversities: Diversities, results: ExperimentResults
) -> None:
    """A panel for each kind of pairs: shares of pairs by the cosine of their gradients."""
    look = looks(results)
    ranges = _ranges(diversities.methods)
    for axes, kind in zip(part.subplots(1, 2), PAIR_KINDS, strict=True):
        edges = np.linspace(*ranges[kind][1], _BARS + 1)
        for name, runs in diversities.methods.items():
            gradients, _ = _pooled_pairs(runs, kind)
            cells, _ = np.histogram(gradients, edges)
            shares = cells / max(1, len(gradients))
            axes.stairs(shares, edges, color=look[name]["color"], label=name, lw=1.4)
        axes.axvline(0.0, color="grey", lw=0.8)
        axes.set_xlabel(f"cosine of gradients, {kind} pairs")
        axes.set_ylabel("share of pairs")
        tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside right upper", frameon=False)


def _means_along(x: Floats, y: Floats, ends: tuple[float, float]) -> tuple[Floats, Floats]:
    """The centres of intervals of x and the means of y in them; nan where there are too few."""
    edges = np.linspace(*ends, _BINS + 1)
    n, _ = np.histogram(x, edges)
    sums, _ = np.histogram(x, edges, weights=y)
    means = np.where(n >= _FEWEST, sums / np.maximum(n, 1), np.nan)
    return (edges[:-1] + edges[1:]) / 2, means


def _ranges(
    methods: Mapping[str, Mapping[int, GradientDiversity]],
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return the ranges of all methods' cosines by kind, for representations and for gradients.

    The range of representations is the same for both kinds.
    """
    pairs = {
        kind: np.concatenate([_pooled_pairs(runs, kind) for runs in methods.values()], axis=1)
        for kind in PAIR_KINDS
    }
    along = _range(np.concatenate([both[1] for both in pairs.values()]))
    return {kind: (along, _range(both[0])) for kind, both in pairs.items()}


def _range(values: Floats) -> tuple[float, float]:
    """The least and the greatest value, 0 included, with a margin."""
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.05))
    margin = 0.03 * (high - low)
    return low - margin, high + margin
