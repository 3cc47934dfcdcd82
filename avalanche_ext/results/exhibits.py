"""Arrays that runs keep for reports: the content of each file NAME.npz, checked on reading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.metrics.curves import AccuracyCurves

Arrays = Mapping[str, NDArray[Any]]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Texts = NDArray[np.str_]
E = TypeVar("E", bound="Exhibit")

PAIR_KINDS = ("negative", "positive")
"""Pairs of samples of different classes, and pairs of one class."""

_KINDS = {"f": "floats", "i": "integers", "U": "texts"}
"""numpy's letters for kinds of types, in words."""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """Named arrays, one per field, that a run keeps in the file NAME.npz."""

    NAME: ClassVar[str]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by their names in the file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls: type[E], arrays: Arrays) -> E:
        """Return the exhibit that a file holds.

        Raises:
            KeyError: If an array is missing.
            ValueError: If arrays have wrong shapes or types, or do not go together.
        """
        exhibit = cls(**{field.name: arrays[field.name] for field in fields(cls)})
        exhibit._check()
        return exhibit

    def _check(self) -> None:
        """Raise ValueError if arrays have wrong shapes or types, or do not go together."""
        raise NotImplementedError

    def _require(self, kind: str, shape: tuple[int | None, ...], *names: str) -> None:
        """Raise ValueError unless arrays are of this kind and shape, None for any length."""
        for name in names:
            array: NDArray[Any] = getattr(self, name)
            fits = array.ndim == len(shape) and all(
                wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype.kind != kind:
                wanted = ", ".join("any" if length is None else str(length) for length in shape)
                raise ValueError(
                    f"{name} has shape {array.shape} and type {array.dtype}, but must have shape "
                    f"({wanted}) and hold {_KINDS[kind]}"
                )


@dataclass(frozen=True, eq=False)
class Edits(Exhibit):
    """Samples of a memory before and after editing: the most often edited one of each class.

    Attributes:
        slot: The slots of the memory that hold them, (k,).
        label: Their labels, (k,).
        n_edits: How often each was edited, (k,).
        original: The images before their first edit, (k, C, H, W).
        edited: The images as they are now, (k, C, H, W).
    """

    NAME = "edits"

    slot: Ints
    label: Ints
    n_edits: Ints
    original: Floats
    edited: Floats

    def _check(self) -> None:
        if self.original.ndim != 4 or self.original.shape != self.edited.shape:
            raise ValueError(
                f"original has shape {self.original.shape} and edited {self.edited.shape}, but "
                "both must have one shape (k, C, H, W)"
            )
        if not len(self.label) == len(self.n_edits) == len(self.original):
            raise ValueError(
                f"label, n_edits and original must have one length, but have {len(self.label)}, "
                f"{len(self.n_edits)} and {len(self.original)}"
            )


@dataclass(frozen=True, eq=False)
class RhoSpectra(Exhibit):
    """The ρ-spectrum of hidden representations after each of T experiences, at least one.

    Attributes:
        experience: The experiences, counted from 0, (T,).
        n_samples: Number of samples represented, (T,).
        rho: ρ over all directions of all layers together, (T,); nan where it is undefined.
        alive_rho: ρ over only the directions in use, (T,).
        n_alive: Number of directions in use, (T,).
        n_directions: Number of all directions, (T,).
        layer: Names of layers, (L,).
        layer_rho: ρ of each layer, (T, L); nan where it is undefined or the layer did not exist.
    """

    NAME = "rho_spectrum"

    experience: Ints
    n_samples: Ints
    rho: Floats
    alive_rho: Floats
    n_alive: Ints
    n_directions: Ints
    layer: Texts
    layer_rho: Floats

    def _check(self) -> None:
        length = _checked_length(self)
        self._require("i", (length,), "n_alive", "n_directions")
        self._require("f", (length,), "rho", "alive_rho")
        self._require("U", (None,), "layer")
        self._require("f", (length, len(self.layer)), "layer_rho")


@dataclass(frozen=True, eq=False)
class _Numbered(Exhibit):
    """An exhibit with named numbers of each of T experiences, at least one."""

    NUMBERS: ClassVar[tuple[str, ...]]

    experience: Ints
    name: Texts
    numbers: Floats

    def number(self, name: str, index: int = -1) -> float:
        """Return a number of an experience, the last by default; nan where it is undefined."""
        return float(self.numbers[index, self.name.tolist().index(name)])

    def _check(self) -> None:
        length = _checked_length(self)
        self._require("U", (None,), "name")
        self._require("f", (length, len(self.name)), "numbers")
        missing = [name for name in self.NUMBERS if name not in self.name.tolist()]
        if missing:
            raise ValueError(f"numbers lack {', '.join(missing)}")


@dataclass(frozen=True, eq=False)
class FisherSpectra(_Numbered):
    """The spectrum of the Fisher after each of T experiences, at least one.

    Attributes:
        experience: The experiences, counted from 0, (T,).
        name: Names of the numbers, (n,), NUMBERS among them.
        numbers: The numbers, (T, n); nan where one is undefined.
        trace: The trace of the Fisher, (T,).
        eigenvalues: The largest eigenvalues, descending, (T, k), nan after the last of each row.
        all_eigenvalues: All eigenvalues in the space that the samples' gradients span, (T, M),
            padded in the same way; (T, 0) if they are not known.
        layer: Names of layers, (L,); "" for parameters that the model itself holds.
        mass: Σ_k λ_k ‖P_ℓ v_k‖² / Σ_k λ_k of each layer ℓ over the largest eigenvalues, (T, L); 0
            in these three where the layer did not exist.
        unweighted_mass: Σ_k ‖P_ℓ v_k‖² / k of each layer, (T, L).
        size: The number of trained parameters of each layer, (T, L).
    """

    NAME = "spectrum"
    NUMBERS = (
        "share_top_k",
        "share_5_percent_of_samples",
        "share_5_percent_of_parameters",
        "effective_rank",
        "log_decay",
        "log_decay_r2",
    )

    trace: Floats
    eigenvalues: Floats
    all_eigenvalues: Floats
    layer: Texts
    mass: Floats
    unweighted_mass: Floats
    size: Floats

    def _check(self) -> None:
        super()._check()
        length = len(self.experience)
        self._require("f", (length,), "trace")
        self._require("f", (length, None), "eigenvalues", "all_eigenvalues")
        self._require("U", (None,), "layer")
        self._require("f", (length, len(self.layer)), "mass", "unweighted_mass", "size")


@dataclass(frozen=True, eq=False)
class FisherForms(Exhibit):
    """How well approximations F̂ of the Fisher F match it after each of T experiences.

    Attributes:
        experience: The experiences, counted from 0, (T,), at least one.
        form: Names of the approximations, (n,).
        trace: tr F̂ / tr F, (T, n).
        eigenvalue_error: Σ |λ̂_i − λ_i| / Σ λ_i over the largest eigenvalues of both, (T, n).
        iteration: Iterations of the next experience after which δ = θ − θ* was recorded, (T, m),
            nan after the last of each row.
        true: δᵀ F δ, (T, m).
        estimated: δᵀ F̂ δ, (T, n, m).
        true_sum: δᵀ F δ for the sum F of the Fishers of all experiences so far, (T, m).
        estimated_sum: δᵀ F̂ δ for the approximations F̂ merged over these experiences, (T, n, m).
    """

    NAME = "fisher_forms"

    experience: Ints
    form: Texts
    trace: Floats
    eigenvalue_error: Floats
    iteration: Floats
    true: Floats
    estimated: Floats
    true_sum: Floats
    estimated_sum: Floats

    def _check(self) -> None:
        length = _checked_length(self)
        self._require("U", (None,), "form")
        self._require("f", (length, len(self.form)), "trace", "eigenvalue_error")
        self._require("f", (length, None), "iteration")
        self._require("f", self.iteration.shape, "true", "true_sum")
        shape = (length, len(self.form), self.iteration.shape[1])
        self._require("f", shape, "estimated", "estimated_sum")


@dataclass(frozen=True, eq=False)
class GradientDiversity(_Numbered):
    """Cosine similarities of gradients and representations of pairs of samples.

    Attributes:
        experience: The experiences, counted from 0, (T,), at least one.
        name: Names of the numbers, (n,), as "negative/correlation", each of NUMBERS among them.
        numbers: The numbers, (T, n); nan where one is undefined.
        negative: Cosines of gradients and of representations in [-1, 1] of pairs of different
            classes after the last experience, (2, m).
        positive: The same for pairs of one class, (2, m').
    """

    NAME = "gradient_diversity"
    NUMBERS = tuple(
        f"{kind}/{number}"
        for kind, number in product(
            PAIR_KINDS,
            (
                "gradient_mean",
                "gradient_std",
                "conflicting",
                "conflict_mean",
                "representation_mean",
                "correlation",
            ),
        )
    )

    negative: Floats
    positive: Floats

    def _check(self) -> None:
        super()._check()
        self._require("f", (2, None), *PAIR_KINDS)
        for kind in PAIR_KINDS:
            if not (np.abs(getattr(self, kind)) <= 1).all():
                raise ValueError(f"{kind} must hold cosines in [-1, 1]")


@dataclass(frozen=True, eq=False)
class ContinualEvaluation(Exhibit):
    """Accuracies inside experiences: an `AccuracyCurves` as arrays.

    Attributes:
        every: Number of mini-batches between two evaluations, ().
        is_mixed: 1 if the samples of all experiences came in random order, else 0, ().
        experience: The experience that was learned, counted from 0, (N,).
        batch: Number of its mini-batches learned so far, (N,).
        accuracy: Accuracies on the test experiences, (N, T); nan where not measured.
    """

    NAME = "continual_evaluation"

    every: Ints
    is_mixed: Ints
    experience: Ints
    batch: Ints
    accuracy: Floats

    @classmethod
    def of(cls, curves: AccuracyCurves) -> ContinualEvaluation:
        """Return the exhibit of some curves."""
        return cls(
            every=np.array(curves.every, dtype=np.int64),
            is_mixed=np.array(int(curves.is_mixed), dtype=np.int64),
            experience=curves.experience,
            batch=curves.batch,
            accuracy=curves.accuracy,
        )

    @property
    def curves(self) -> AccuracyCurves:
        """The accuracies.

        Raises:
            ValueError: If arrays do not go together, or hold wrong values.
        """
        return AccuracyCurves(
            int(self.every),
            self.experience,
            self.batch,
            np.asarray(self.accuracy, dtype=np.float64),
            bool(self.is_mixed),
        )

    def _check(self) -> None:
        self._require("i", (), "every", "is_mixed")
        length = _checked_length(self)
        self._require("i", (length,), "batch")
        self._require("f", (length, None), "accuracy")
        _ = self.curves


def _checked_length(exhibit: RhoSpectra | _Numbered | FisherForms | ContinualEvaluation) -> int:
    """Return the number of experiences; ValueError if there is none."""
    exhibit._require("i", (None,), "experience")
    if not len(exhibit.experience):
        raise ValueError("experience is empty")
    return len(exhibit.experience)


def padded(rows: Iterable[Floats]) -> Floats:
    """Return vectors as rows of an array, padded with nan."""
    vectors = [*rows]
    filled = np.full((len(vectors), max(map(len, vectors))), math.nan)
    for row, vector in zip(filled, vectors, strict=True):
        row[: len(vector)] = vector
    return filled


def names_in(rows: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the names in all rows, each once, in their order."""
    return [*dict.fromkeys(name for row in rows for name in row)]


def table(
    rows: Sequence[Mapping[str, float]], names: Sequence[str], absent: float = math.nan
) -> Floats:
    """Return the values of T rows under n names, (T, n); `absent` where a row has none."""
    values = [row.get(name, absent) for row in rows for name in names]
    return np.array(values, dtype=np.float64).reshape(len(rows), len(names))
