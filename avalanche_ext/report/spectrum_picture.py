"""The picture of the Fisher's spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.report.spectrum import Spectra, finite, layer_names, layer_shares
from avalanche_ext.report.style import COLOURS, MOST_TICKS, set_title, tidy
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.exhibits import FisherSpectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 20
_PALEST = 0.9
_BARS = {"weighted by λ": COLOURS[0], "unweighted": COLOURS[5], "share of the weights": "lightgrey"}


def spectra_figure(spectra: Spectra, notes: Sequence[str] = ()) -> Figure | None:
    """Draw the spectra of each method over its runs, in a row of three panels per method.

    On the left are the largest eigenvalues by index, one line per experience. In the middle is the
    share of the trace in the largest of all known eigenvalues, with a dotted line at 5 % of the
    samples' directions. Lines are means over seeds (geometric ones for eigenvalues), and bands span
    from the smallest to the largest value. On the right is the mass of each layer after the last
    experience, for the layers with the most mass, as mean ± standard deviation over seeds.

    Args:
        spectra: The experiment's spectra.
        notes: Sentences below the first title.

    Returns:
        A figure without a window; None if there is no spectrum.
    """
    from matplotlib.figure import Figure

    if not spectra.methods:
        return None
    n_layers = max(len(run.layer) for runs in spectra.methods.values() for run in runs.values())
    height = max(3.4, 1.2 + 0.22 * min(n_layers, MOST_BARS))
    figure = Figure(figsize=(14.4, height * len(spectra.methods)), layout="constrained")
    parts = figure.subfigures(len(spectra.methods), 1, squeeze=False)[:, 0]
    for part, (name, runs) in zip(parts, spectra.methods.items(), strict=True):
        first = part is parts[0]
        set_title(part, f"{name}: Fisher spectrum, {_seeds(runs)}", notes if first else ())
        eigenvalues, shares, mass = part.subplots(1, 3)
        draw_eigenvalues(eigenvalues, runs)
        draw_shares(shares, runs)
        draw_mass(mass, runs)
        handles, labels = eigenvalues.get_legend_handles_labels()
        part.legend(handles, labels, title="experience", loc="outside right upper", frameon=False)
    return figure


def _seeds(runs: Mapping[int, FisherSpectra]) -> str:
    if len(runs) == 1:
        return f"seed {next(iter(runs))}"
    return f"mean and range of {len(runs)} seeds"


def draw_eigenvalues(axes: Axes, runs: Mapping[int, FisherSpectra]) -> None:
    """Draw the largest eigenvalues by index: per experience, a line and a band over seeds.

    Args:
        axes: The matplotlib axes to draw on.
        runs: A method's spectra by seed.
    """
    experiences = _experiences(runs)
    labelled = {*experiences[:: -(-len(experiences) // MOST_TICKS)], experiences[-1]}
    for experience, colour in zip(experiences, _colours(len(experiences)), strict=True):
        rows = [run.eigenvalues[i] for run, i in _at(runs, experience)]
        label = str(experience + 1) if experience in labelled else None
        _draw_rows(axes, rows, colour, label, is_log=True)
    axes.set_yscale("log")
    axes.set_xlabel("index i")
    axes.set_ylabel("eigenvalue λ_i")
    tidy(axes)


def draw_shares(axes: Axes, runs: Mapping[int, FisherSpectra]) -> None:
    """Draw the trace's share in the largest eigenvalues; arguments as in `draw_eigenvalues`."""
    n_known = min(run.all_eigenvalues.shape[1] for run in runs.values())
    experiences = _experiences(runs)
    for experience, colour in zip(experiences, _colours(len(experiences)), strict=True):
        rows = [
            np.cumsum(run.all_eigenvalues[i] if n_known else run.eigenvalues[i]) / run.trace[i]
            for run, i in _at(runs, experience)
            if run.trace[i] > 0
        ]
        _draw_rows(axes, rows, colour)
    if n_known:
        axes.axvline(n_known / 20, ls=":", color="grey")
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("number n of eigenvalues" + (" (dotted: 5 % of directions)" * bool(n_known)))
    axes.set_ylabel("share of the trace in the n largest")
    tidy(axes)


def draw_mass(axes: Axes, runs: Mapping[int, FisherSpectra]) -> None:
    """Draw the mass of the layers after the last experience; arguments as in `draw_eigenvalues`.

    Layers that not all runs have are left out.
    """
    names = [
        name
        for name in layer_names(next(iter(runs.values())))
        if all(name in layer_names(run) for run in runs.values())
    ]
    shares = np.array(
        [
            [layer_shares(run, -1)[layer_names(run).index(name)] for name in names]
            for run in runs.values()
        ]
    ).reshape(len(runs), len(names), len(_BARS))
    means = shares.mean(axis=0)
    shown = np.sort(np.argsort(-means[:, 0], kind="stable")[:MOST_BARS])
    places = np.arange(len(shown))
    std = shares.std(axis=0, ddof=1) if len(runs) > 1 else None
    for i, (label, colour) in enumerate(_BARS.items()):
        spread = None if std is None else std[shown, i]
        axes.barh(
            places + 0.27 * (i - 1), means[shown, i], 0.27, label=label, color=colour,
            xerr=spread, error_kw={"elinewidth": 0.8, "ecolor": "grey"},
        )  # fmt: skip
    axes.set_yticks(places, [names[layer] for layer in shown])
    axes.invert_yaxis()
    of_all = f" ({len(shown)} of {len(names)} layers)" if len(shown) < len(names) else ""
    axes.set_xlabel(f"mass by layer in the k largest, last experience{of_all}")
    axes.legend(frameon=False)
    tidy(axes)


def _experiences(runs: Mapping[int, FisherSpectra]) -> list[int]:
    """Return the experiences for which any run has a spectrum, ascending."""
    return sorted({each for run in runs.values() for each in run.experience.tolist()})


def _at(runs: Mapping[int, FisherSpectra], experience: int) -> Iterator[tuple[FisherSpectra, int]]:
    """The runs that have a spectrum after an experience, with its row."""
    for run in runs.values():
        if experience in run.experience:
            yield run, run.experience.tolist().index(experience)


def _draw_rows(
    axes: Axes,
    rows: Sequence[Floats],
    colour: tuple[float, ...],
    label: str | None = None,
    is_log: bool = False,
) -> None:
    """Draw the mean of rows over their common length, and the range of several."""
    known = [values for row in rows if len(values := np.array(finite(row)))]
    if not known:
        return
    length = min(map(len, known))
    values = np.array([each[:length] for each in known])
    if is_log and (values > 0).all():
        mean = np.exp(np.log(values).mean(axis=0))
    else:
        mean = values.mean(axis=0)
    x = range(1, length + 1)
    axes.plot(x, mean, color=colour, label=label)
    if len(values) > 1:
        axes.fill_between(
            x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0
        )


def _colours(n: int) -> Sequence[tuple[float, ...]]:
    """Viridis from dark to light, without its palest part."""
    from matplotlib import colormaps

    return [tuple(colour) for colour in colormaps["viridis"](np.linspace(0.0, _PALEST, n))]
