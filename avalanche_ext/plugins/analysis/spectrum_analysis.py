"""The spectrum of the Fisher after each experience."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.functional.fisher.diagonal import FisherKind
from avalanche_ext.functional.fisher.measures import (
    effective_rank,
    geometric_decay,
    layer_curvature,
    layer_mass,
    share_of_largest,
)
from avalanche_ext.functional.fisher.spectrum import fisher_eigenvalues, fisher_spectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.analysis.fisher_path import FisherPath, as_exhibit
from avalanche_ext.plugins.core.composition import ReportingPlugin
from avalanche_ext.plugins.core.experiences import Endings, draw_samples
from avalanche_ext.plugins.core.model import is_multi_head, own_model
from avalanche_ext.results.exhibits import FisherForms, FisherSpectra, names_in, padded, table
from avalanche_ext.validation import validated

_LOGGED = (1, 2, 5, 10, 20, 50)
"""Ranks of the eigenvalues that are logged."""

_ONE_IN = 20
"""Shares are those of the largest 5 % of eigenvalues, one in 20."""


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of the Fisher of a model that has learned an experience.

    Attributes:
        experience: The experience, counted from 0.
        eigenvalues: The largest eigenvalues, (k,), descending.
        all_eigenvalues: All eigenvalues in the space that the samples' gradients span, (M,),
            descending; None if unknown.
        trace: The trace of the Fisher.
        sizes: The number of trained parameters of each layer; they sum to P.
        mass: Σ_k λ_k ‖P_ℓ v_k‖² / Σ_k λ_k of each layer over the largest eigenvalues.
        unweighted_mass: Σ_k ‖P_ℓ v_k‖² / k of each layer.
    """

    experience: int
    eigenvalues: Tensor
    all_eigenvalues: Tensor | None
    trace: float
    sizes: dict[str, int]
    mass: dict[str, float]
    unweighted_mass: dict[str, float]

    def numbers(self) -> dict[str, float]:
        """Return the spectrum's numbers by name; nan where one is undefined."""
        largest, known = self.eigenvalues, self.all_eigenvalues
        decay = geometric_decay(largest)
        n_samples = 0 if known is None else math.ceil(len(known) / _ONE_IN)
        n_parameters = math.ceil(sum(self.sizes.values()) / _ONE_IN)
        # If k covers all nonzero eigenvalues, the share says nothing about the model.
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
        largest = {f"lambda_{i}": float(self.eigenvalues[i - 1]) for i in _LOGGED if i <= n}
        mass = {f"mass/{layer}": share for layer, share in self.mass.items()}
        unweighted = {f"unweighted_mass/{name}": x for name, x in self.unweighted_mass.items()}
        numbers = {**largest, **self.numbers(), **mass, **unweighted}
        return {f"spectrum/{name}": x for name, x in numbers.items() if math.isfinite(x)}

    def _share(self, eigenvalues: Tensor | None, n: int) -> float:
        if eigenvalues is None or not self.trace > 0:
            return math.nan
        return share_of_largest(eigenvalues, n, self.trace)


class SpectrumAnalysisPlugin(ReportingPlugin):
    """Measure the spectrum of the model's Fisher after each experience, without changing training.

    The Fisher is that of the model's softmax, in evaluation mode and without augmentation, on
    samples drawn without replacement from the training set of the experience that has just been
    learned; replayed samples do not count. On an online stream, the plugin waits until all parts of
    an experience of the original stream have been learned, and draws from all of them.

    The Fisher of n samples has at most n non-zero eigenvalues (with `kind="true"`, n times the
    number of classes); shares and ranks are those of this estimate. There is no spectrum if
    parameters are no longer finite.

    The time it takes counts as training.

    Args:
        rank: Number of largest eigenvalues to keep, with the masses of their eigenvectors; the
            Fisher may have fewer.
        n_samples: Number of samples, or all if the experience has fewer.
        kind: Which labels count: "sampled", drawn from the model's own predictions; "true", all,
            weighted by their probability; or "empirical", the data's.
        compare_every: Compare approximations of the Fisher: its diagonal, its largest eigenpairs,
            these plus the rest of the diagonal, and Kronecker factors. During the next experience,
            δᵀ F δ is computed every `compare_every` iterations for the Fisher F and its
            approximations, where δ is the change of the weights since F was computed. The same is
            computed for the sum of the Fishers of all experiences so far, and for the
            approximations as methods merge them. This keeps a copy of the model and of the samples
            for each experience, and the weights at each of these iterations until the experience
            ends; the time grows with the square of the number of experiences. None compares
            nothing.
        seed: Seed of the draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
    """

    supports_distributed = False
    needs_scores: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        rank: PositiveInt = 50,
        n_samples: PositiveInt = 1000,
        kind: FisherKind = "sampled",
        compare_every: PositiveInt | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rank = rank
        self.n_samples = n_samples
        self.kind: FisherKind = kind
        self.compare_every = compare_every
        self.spectra: list[Spectrum] = []
        self.paths: list[FisherPath] = []
        self._n_iterations = 0
        self._is_new = False
        self._endings = Endings()
        self._generator = torch.Generator().manual_seed(seed)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Mark the last experience's spectrum as old."""
        self._is_new = False

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Record the change of the weights if approximations of the Fisher are compared."""
        self._n_iterations += 1
        if self.paths and self.compare_every and self._n_iterations % self.compare_every == 0:
            self.paths[-1].take(own_model(strategy), self._n_iterations)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Analyse the model if the experience has ended."""
        if not self._endings.ends(strategy.experience):
            return
        self._n_iterations = 0
        if self.paths:
            with generators_kept(strategy.device):
                self.paths[-1].finish()
        if _is_finite(own_model(strategy)):
            with generators_kept(strategy.device), suppress(FloatingPointError):
                self.spectra.append(self._spectrum(strategy))
                self._is_new = True

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers of the current experience's spectrum."""
        return self.spectra[-1].diagnostics() if self._is_new else {}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the spectra of all experiences."""
        if not self.spectra:
            return {}
        exhibits = {FisherSpectra.NAME: _as_exhibit(self.spectra).to_arrays()}
        if self.paths:
            exhibits[FisherForms.NAME] = as_exhibit(self.paths).to_arrays()
        return exhibits

    def _spectrum(self, strategy: Strategy) -> Spectrum:
        model, experience = own_model(strategy), strategy.experience
        x, y, t = draw_samples(experience, self.n_samples, self._generator, strategy.device)
        given: dict[str, Any] = {
            "kind": self.kind,
            "t": t if is_multi_head(strategy) else None,
            "seed": int(torch.randint(2**31, (), generator=self._generator)),
        }
        spectrum = fisher_spectrum(model, x, y, self.rank, **given)
        if self.compare_every and len(spectrum.eigenvalues):
            kept = {"kind": self.kind, "seed": given["seed"]}
            samples, before = (x, y, given["t"]), self.paths[-1] if self.paths else None
            path = FisherPath(origin_index(experience), model, samples, spectrum, kept, before)
            self.paths.append(path)
        layout = FlatLayout(model.named_parameters())
        return Spectrum(
            experience=origin_index(experience),
            eigenvalues=spectrum.eigenvalues,
            all_eigenvalues=fisher_eigenvalues(model, x, y, **given),
            trace=spectrum.trace,
            sizes=_sizes(layout),
            mass=layer_curvature(spectrum, layout),
            unweighted_mass=layer_mass(spectrum, layout),
        )


def _sizes(layout: FlatLayout) -> dict[str, int]:
    """Return the number of parameters of each layer, by its name."""
    sizes: dict[str, int] = {}
    for layer, numel in zip(layout.layers, layout.numels, strict=True):
        sizes[layer] = sizes.get(layer, 0) + numel
    return sizes


@torch.no_grad()
def _is_finite(model: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def _as_exhibit(spectra: Sequence[Spectrum]) -> FisherSpectra:
    """Return the spectra of one or more experiences in the form that reports read."""
    layers = names_in(each.mass for each in spectra)
    numbers = [each.numbers() for each in spectra]
    names = names_in(numbers)
    return FisherSpectra(
        experience=np.array([each.experience for each in spectra], dtype=np.int64),
        name=np.array(names, dtype=np.str_),
        numbers=table(numbers, names),
        trace=np.array([each.trace for each in spectra]),
        eigenvalues=padded(_vector(each.eigenvalues) for each in spectra),
        all_eigenvalues=padded(_vector(each.all_eigenvalues) for each in spectra),
        layer=np.array(layers, dtype=np.str_),
        mass=table([each.mass for each in spectra], layers, absent=0.0),
        unweighted_mass=table([each.unweighted_mass for each in spectra], layers, absent=0.0),
        size=table([each.sizes for each in spectra], layers, absent=0.0),
    )


def _vector(values: Tensor | None) -> NDArray[np.float64]:
    return np.empty(0) if values is None else values.double().cpu().numpy()
