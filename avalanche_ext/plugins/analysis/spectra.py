"""What is known of the spectra of a run, one of each experience."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from avalanche_ext.functional.fisher.eigenvalues import geometric_decay, share_of_largest
from avalanche_ext.functional.fisher.spectrum import effective_rank

_TOLD = (1, 2, 5, 10, 20, 50)
"""The places of the eigenvalues that are told among the numbers."""

_ONE_IN = 20
"""Shares are told of the largest eigenvalue of so many, 5 %."""


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of the Fisher of a model that has learned an experience.

    Attributes:
        experience: Which experience, counted from 0.
        eigenvalues: The largest, (k,), descending.
        all_eigenvalues: As many as the Fisher of these samples has in the space that their
            gradients span, (M,), descending; None where they are not known.
        trace: Of the Fisher.
        sizes: By layer, the number of its trained parameters, with the sum P.
        mass: By layer, Σ_k λ_k ‖P_ℓ v_k‖² / Σ_k λ_k over the largest.
        unweighted_mass: By layer, Σ_k ‖P_ℓ v_k‖² / k.
    """

    experience: int
    eigenvalues: Tensor
    all_eigenvalues: Tensor | None
    trace: float
    sizes: dict[str, int]
    mass: dict[str, float]
    unweighted_mass: dict[str, float]

    def numbers(self) -> dict[str, float]:
        """Return what can be said in a number, by name; nan where it cannot be said."""
        largest, known = self.eigenvalues, self.all_eigenvalues
        decay = geometric_decay(largest)
        n_samples = 0 if known is None else math.ceil(len(known) / _ONE_IN)
        n_parameters = math.ceil(sum(self.sizes.values()) / _ONE_IN)
        # The share of as many eigenvalues as the samples can have says nothing of the model.
        beyond = known if known is not None and n_parameters < len(known) else None
        return {
            "trace": self.trace,
            "share_top_k": self._share(largest, len(largest)),
            "share_5_percent_of_samples": self._share(known, n_samples),
            "share_5_percent_of_parameters": self._share(beyond, n_parameters),
            "effective_rank": math.nan if known is None else effective_rank(known),
            "log_decay": decay.slope if decay else math.nan,
            "log_decay_r2": decay.r_squared if decay else math.nan,
        }

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers, some of the eigenvalues and the mass of each layer, by name."""
        n = len(self.eigenvalues)
        told = {f"lambda_{i}": float(self.eigenvalues[i - 1]) for i in _TOLD if i <= n}
        mass = {f"mass/{layer}": share for layer, share in self.mass.items()}
        unweighted = {f"unweighted_mass/{name}": x for name, x in self.unweighted_mass.items()}
        numbers = {**told, **self.numbers(), **mass, **unweighted}
        return {f"spectrum/{name}": x for name, x in numbers.items() if math.isfinite(x)}

    def _share(self, eigenvalues: Tensor | None, n: int) -> float:
        if eigenvalues is None or not self.trace > 0:
            return math.nan
        return share_of_largest(eigenvalues, n, self.trace)


def as_arrays(spectra: Sequence[Spectrum]) -> dict[str, NDArray[Any]]:
    """Return the spectra of T experiences, at least one, as arrays for a report.

    Returns:
        `experience` and `trace`, (T,); `eigenvalues`, (T, k), and `all_eigenvalues`, (T, M), nan
        after the last of each; `layer`, (L,), with `mass`, `unweighted_mass` and `size`, (T, L),
        zero where a layer was not yet there; `name`, (n,), of the `numbers`, (T, n).
    """
    layers = [*dict.fromkeys(layer for each in spectra for layer in each.mass)]
    numbers = [each.numbers() for each in spectra]
    return {
        "experience": np.array([each.experience for each in spectra], dtype=np.int64),
        "trace": np.array([each.trace for each in spectra]),
        "eigenvalues": _padded(each.eigenvalues for each in spectra),
        "all_eigenvalues": _padded(each.all_eigenvalues for each in spectra),
        "layer": np.array(layers, dtype=np.str_),
        "mass": _table([each.mass for each in spectra], layers, 0.0),
        "unweighted_mass": _table([each.unweighted_mass for each in spectra], layers, 0.0),
        "size": _table([each.sizes for each in spectra], layers, 0.0),
        "name": np.array([*numbers[0]], dtype=np.str_),
        "numbers": _table(numbers, [*numbers[0]], math.nan),
    }


def _padded(rows: Iterable[Tensor | None]) -> NDArray[np.float64]:
    """Return vectors as the rows of an array, with nan after the last value of each."""
    vectors = [np.empty(0) if row is None else row.double().cpu().numpy() for row in rows]
    padded = np.full((len(vectors), max(map(len, vectors))), math.nan)
    for row, vector in zip(padded, vectors, strict=True):
        row[: len(vector)] = vector
    return padded


def _table(
    rows: Sequence[Mapping[str, float]], names: Sequence[str], absent: float
) -> NDArray[np.float64]:
    values = [row.get(name, absent) for row in rows for name in names]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(names))
