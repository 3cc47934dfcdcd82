"""The picture of spectra: eigenvalues, their shares of the trace, and the mass of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.exhibits import Arrays
from avalanche_ext.report.figures import COLOURS, MOST_TICKS, tidy
from avalanche_ext.report.spectrum import Spectra, known, layer_names, layer_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 20
_PALEST = 0.9
_BARS = {"weighted by λ": COLOURS[0], "unweighted": COLOURS[5], "share of the weights": "lightgrey"}


def spectra_figure(spectra: Spectra) -> Figure | None:
    """The spectra of each method's first run that has any: a row of three panels a method.

    The largest eigenvalues by their index, a line an experience; the share of the trace in the
    first of them, of all that are known, with a dotted line at 5 % of the samples' directions; and
    the mass of each layer after the last experience, of those layers that have most.

    Args:
        spectra: `read_spectra` of the experiment.

    Returns:
        A figure without a window; None where there is no spectrum.
    """
    from matplotlib.figure import Figure

    if not spectra.methods:
        return None
    n_bars = max(
        min(len(arrays["layer"]), MOST_BARS)
        for runs in spectra.methods.values()
        for arrays in runs.values()
    )
    height = max(3.4, 1.2 + 0.22 * n_bars)
    figure = Figure(figsize=(14.4, height * len(spectra.methods)), layout="constrained")
    parts = figure.subfigures(len(spectra.methods), 1, squeeze=False)[:, 0]
    for part, (name, runs) in zip(parts, spectra.methods.items(), strict=True):
        seed, arrays = next(iter(runs.items()))
        part.suptitle(f"{name}, seed {seed}: Fisher spectrum")
        eigenvalues, shares, mass = part.subplots(1, 3)
        _draw_eigenvalues(eigenvalues, arrays)
        _draw_shares(shares, arrays)
        _draw_mass(mass, arrays)
        handles, labels = eigenvalues.get_legend_handles_labels()
        part.legend(handles, labels, title="experience", loc="outside right upper", frameon=False)
    return figure


def _draw_eigenvalues(axes: Axes, arrays: Arrays) -> None:
    experiences = arrays["experience"].tolist()
    labelled = {*experiences[:: -(-len(experiences) // MOST_TICKS)], experiences[-1]}
    for experience, colour, row in zip(
        experiences, _colours(len(experiences)), arrays["eigenvalues"], strict=True
    ):
        values = known(row)
        label = str(experience + 1) if experience in labelled else None
        axes.plot(range(1, len(values) + 1), values, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("index i")
    axes.set_ylabel("eigenvalue λ_i")
    tidy(axes)


def _draw_shares(axes: Axes, arrays: Arrays) -> None:
    n_known = arrays["all_eigenvalues"].shape[1]
    spectra = arrays["all_eigenvalues" if n_known else "eigenvalues"]
    for row, colour, trace in zip(spectra, _colours(len(spectra)), arrays["trace"], strict=True):
        values = known(row)
        if values and trace > 0:
            axes.plot(range(1, len(values) + 1), np.cumsum(values) / trace, color=colour)
    if n_known:
        axes.axvline(n_known / 20, ls=":", color="grey")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("number n of the largest" + (" (dotted: 5 % of directions)" * bool(n_known)))
    axes.set_ylabel("share of the trace in the largest n")
    tidy(axes)


def _draw_mass(axes: Axes, arrays: Arrays) -> None:
    shares = layer_shares(arrays, -1)
    shown = np.sort(np.argsort(-shares[:, 0], kind="stable")[:MOST_BARS])
    places = np.arange(len(shown))
    for i, (label, colour) in enumerate(_BARS.items()):
        axes.barh(places + 0.27 * (i - 1), shares[shown, i], 0.27, label=label, color=colour)
    names = layer_names(arrays)
    axes.set_yticks(places, [names[layer] for layer in shown])
    axes.invert_yaxis()
    n_layers = len(shares)
    of_all = f" ({len(shown)} of {n_layers} layers)" if len(shown) < n_layers else ""
    axes.set_xlabel(f"mass of layers in the largest k, last experience{of_all}")
    axes.legend(frameon=False)
    tidy(axes)


def _colours(n: int) -> Sequence[tuple[float, ...]]:
    """Viridis from dark to light, without its palest part."""
    from matplotlib import colormaps

    return [tuple(colour) for colour in colormaps["viridis"](np.linspace(0.0, _PALEST, n))]
