"""Approximations of the Fisher compared with the Fisher itself, and the report's table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from avalanche_ext.report.estimates import estimate
from avalanche_ext.report.layout import NONE, aligned, plus_minus, section, short, wrapped
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.exhibits import FisherForms
from avalanche_ext.results.experiment import Exhibits

_NOTE = (
    "trace: tr F̂ / tr F; error: Σ |λ̂_i − λ_i| / Σ λ_i over the largest eigenvalues; curvature: "
    "δᵀ F̂ δ / δᵀ F δ, where δ is the change of the weights during the next experience: the median "
    "over experiences and seeds at each iteration, then the median and the range over iterations. "
    "curvature of sum: the same for the sum of F over all experiences so far."
)


def forms_text(forms: Exhibits[FisherForms], caveats: Sequence[str] = ()) -> str:
    """Return the report's section on approximations of the Fisher; "" if there are none.

    Args:
        forms: The runs' exhibits.
        caveats: Remarks on the runs that are shown.
    """
    if not forms.methods:
        return ""
    lines = [
        "Approximations F̂ of the Fisher F compared with F, mean ± std over experiences and seeds",
        *aligned(_rows(forms)),
        "",
        *wrapped(_NOTE),
        *(line for caveat in caveats for line in wrapped(f"{caveat}.")),
    ]
    return section(lines)


def _rows(forms: Exhibits[FisherForms]) -> Iterator[list[str]]:
    yield ["method", "approximation", "trace", "error", "curvature", "curvature of sum"]
    for name, runs in forms.methods.items():
        of_one, of_all = by_iteration(runs), by_iteration(runs, is_sum=True)
        for form in dict.fromkeys(each for run in runs.values() for each in run.form.tolist()):
            yield [
                name,
                form,
                plus_minus(estimate(_values(runs, form, "trace"))),
                plus_minus(estimate(_values(runs, form, "eigenvalue_error"))),
                _medians(of_one.get(form, {})),
                _medians(of_all.get(form, {})),
            ]


def _values(runs: Mapping[int, FisherForms], form: str, name: str) -> list[float]:
    columns: list[Floats] = [
        getattr(run, name)[:, i]
        for run in runs.values()
        for i, each in enumerate(run.form.tolist())
        if each == form
    ]
    return [float(value) for value in np.concatenate(columns) if np.isfinite(value)]


def _medians(ratios: Mapping[int, Sequence[float]]) -> str:
    """Return the median of the medians at each iteration, and their range.

    >>> _medians({1: [0.5, 0.7, 0.6], 2: [2.0]})
    '1.30 (0.60 to 2.00)'
    """
    if not ratios:
        return NONE
    medians = [float(np.median(values)) for values in ratios.values()]
    return f"{short(float(np.median(medians)))} ({short(min(medians))} to {short(max(medians))})"


def by_iteration(
    runs: Mapping[int, FisherForms], is_sum: bool = False
) -> dict[str, dict[int, list[float]]]:
    """Return δᵀ F̂ δ / δᵀ F δ of each approximation by iteration, for all experiences and seeds.

    Points at which the weights have not moved in any direction that F sees are left out.

    Args:
        runs: A method's runs, by seed.
        is_sum: Whether F is the sum over all experiences so far, from the second one on.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for run in runs.values():
        true, estimated = run.true, run.estimated
        if is_sum:
            true, estimated = run.true_sum[1:], run.estimated_sum[1:]
        for i, form in enumerate(run.form.tolist()):
            values = found.setdefault(form, defaultdict(list))
            for row, iterations in enumerate(run.iteration[len(run.iteration) - len(true) :]):
                for m in np.flatnonzero(true[row] > 0):
                    ratio = float(estimated[row, i, m] / true[row, m])
                    values[int(iterations[m])].append(ratio)
    return {form: {**values} for form, values in found.items() if values}
