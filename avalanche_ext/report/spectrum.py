"""Spectra of the Fisher: the report's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from avalanche_ext.report.estimates import Estimate, estimate
from avalanche_ext.report.layout import NONE, aligned, plus_minus, section, wrapped
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.exhibits import FisherSpectra
from avalanche_ext.results.experiment import Exhibits

Spectra = Exhibits[FisherSpectra]

_OF_WEIGHTS = "share_5_percent_of_parameters"
_SHARES = {
    "share_top_k": "largest k",
    "share_5_percent_of_samples": "5 % of samples",
    _OF_WEIGHTS: "5 % of weights",
}
_LAYERS_IN_TABLE = 3
_PLACES = {"first": 0, "last": -1}
_NOTES = {
    "eigenvalues": "λ₁, λ_k: largest and k-th largest eigenvalue; largest k: their share of the "
    "trace; 5 % of samples: share of the trace in the largest 5 % of the directions that the "
    "samples' gradients span;",
    _OF_WEIGHTS: "5 % of weights: the same for the largest 5 % of all P directions (– if the "
    "samples span no more than these);",
    "rest": "eff. rank: exp of the entropy of the normalised eigenvalues (Roy and Vetterli, 2007); "
    "log decay: slope of log λ_i over i up to k, and the R² of the fit; mass of layer ℓ: "
    "Σ λ_i ‖P_ℓ v_i‖² / Σ λ_i, where P_ℓ projects onto its weights. The training time includes "
    "this analysis.",
}


def spectra_text(spectra: Spectra, caveats: Sequence[str] = ()) -> str:
    """Return the report's section on spectra, two tables; "" if there are none.

    Args:
        spectra: The runs' exhibits.
        caveats: Remarks on the runs that are shown.
    """
    if not spectra.methods:
        return ""
    shares = {
        number: column
        for number, column in _SHARES.items()
        if number != _OF_WEIGHTS or _is_known(spectra, number)
    }
    notes = [text for name, text in _NOTES.items() if name != _OF_WEIGHTS or name in shares]
    lines = [
        "Fisher spectrum after the first and the last experience, mean ± std over seeds",
        *aligned(_eigenvalue_rows(spectra, shares)),
        "",
        *aligned(_mass_rows(spectra)),
        "",
        *wrapped(" ".join(notes)),
        *(line for caveat in caveats for line in wrapped(f"{caveat}.")),
    ]
    return section(lines)


def _is_known(spectra: Spectra, number: str) -> bool:
    """Return whether any row of the tables has the number."""
    return any(
        _number(runs, index, number) is not None
        for runs in spectra.methods.values()
        for index in _PLACES.values()
    )


def _eigenvalue_rows(spectra: Spectra, shares: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield the rows of the first table; `shares` has the headings of numbers that are shares."""
    yield ["method", "after", "k", "λ₁", "λ_k", *shares.values(), "eff. rank"]
    for name, runs in spectra.methods.items():
        for place, index in _PLACES.items():
            found = [finite(run.eigenvalues[index]) for run in runs.values()]
            ends = [values for values in found if len(values)]
            yield [
                name,
                place,
                "/".join(map(str, sorted({len(values) for values in found}))),
                _significant(estimate([float(values[0]) for values in ends])),
                _significant(estimate([float(values[-1]) for values in ends])),
                *(plus_minus(_number(runs, index, number)) for number in shares),
                plus_minus(_number(runs, index, "effective_rank"), decimals=1),
            ]


def _mass_rows(spectra: Spectra) -> Iterator[list[str]]:
    yield ["method", "after", "log decay", "R²", "most mass in (share of the weights)"]
    for name, runs in spectra.methods.items():
        for place, index in _PLACES.items():
            yield [
                name,
                place,
                plus_minus(_number(runs, index, "log_decay"), decimals=4),
                plus_minus(_number(runs, index, "log_decay_r2")),
                _most_mass(runs, index),
            ]


def _number(runs: Mapping[int, FisherSpectra], index: int, name: str) -> Estimate | None:
    values = [run.number(name, index) for run in runs.values()]
    return estimate([value for value in values if np.isfinite(value)])


def _most_mass(runs: Mapping[int, FisherSpectra], index: int) -> str:
    """Return the layers with the largest mean mass over seeds, among those that all runs have."""
    shares: dict[str, list[Floats]] = {}
    for run in runs.values():
        for layer, share in zip(layer_names(run), layer_shares(run, index), strict=True):
            shares.setdefault(layer, []).append(share)
    means = {
        layer: np.mean(found, axis=0) for layer, found in shares.items() if len(found) == len(runs)
    }
    order = sorted(means, key=lambda layer: float(means[layer][0]), reverse=True)
    texts = [
        f"{layer} {means[layer][0]:.2f} ({means[layer][2]:.2f})"
        for layer in order[:_LAYERS_IN_TABLE]
        if means[layer][0] > 0
    ]
    return ", ".join(texts) or NONE


def layer_names(run: FisherSpectra) -> list[str]:
    """The names of the layers; "(model)" for parameters that the model itself holds."""
    return [layer or "(model)" for layer in run.layer.tolist()]


def layer_shares(run: FisherSpectra, index: int) -> Floats:
    """Mass, unweighted mass and share of the weights of each layer of an experience, (L, 3)."""
    size = run.size[index]
    columns = [run.mass[index], run.unweighted_mass[index], size / max(size.sum(), 1.0)]
    shares: Floats = np.stack(columns, axis=1)
    return shares


def _significant(value: Estimate | None) -> str:
    """A mean to three significant digits, its standard deviation to the same decimals, or NONE.

    >>> _significant(Estimate(18.34, 10.4, 3)), _significant(Estimate(1.2e-7, 3e-9, 3))
    ('18.3 ± 10.4', '(1.20 ± 0.03)e-07')
    """
    if value is None:
        return NONE
    exponent = int(f"{value.mean:.2e}".partition("e")[2])
    if -3 <= exponent < 5:
        return plus_minus(value, decimals=max(2 - exponent, 0))
    unit = 10.0**exponent
    std = None if value.std is None else value.std / unit
    return f"({plus_minus(Estimate(value.mean / unit, std, value.n), 2)})e{exponent:+03d}"


def finite(row: Floats) -> list[float]:
    """Return the numbers of a row that is padded with nan."""
    return [float(value) for value in row if np.isfinite(value)]
