"""A sum of curvatures that are stored separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.curvature import Curvature, Step
from avalanche_ext.functional.model.gradients import FlatLayout


@dataclass(frozen=True)
class SummedCurvature(Curvature):
    """F = Σ_t w_t F_t, where each F_t is stored as it is, so memory grows with their number.

    A step takes the steps of all F_t, one after another. To first order in ηλF this is the step for
    their sum, and it is equally stable. For λ → ∞ each step removes the whole part of δ that its
    F_t sees. So the part that the last F_t sees is gone, but the parts that earlier ones see partly
    come back.

    Attributes:
        terms: F_t, over the same parameters.
        weights: w_t, at least 0.
    """

    terms: tuple[Curvature, ...]
    weights: tuple[float, ...]

    def product(self, delta: Tensor) -> Tensor:
        """Return F δ, (P,), of a vector δ, (P,)."""
        product = torch.zeros_like(delta)
        for weight, term in self._pairs():
            product.add_(term.product(delta), alpha=weight)
        return product

    @property
    def trace(self) -> float:
        """The sum of all eigenvalues of F."""
        return sum(weight * term.trace for weight, term in self._pairs())

    @property
    def largest(self) -> float:
        """The largest of the lower bounds of all terms."""
        return max(weight * term.largest for weight, term in self._pairs())

    @property
    def size(self) -> int:
        """The number of parameters, P."""
        return self.terms[0].size

    @property
    def n_bytes(self) -> int:
        """The memory of all terms."""
        return sum(term.n_bytes for term in self.terms)

    def held(self) -> Tensor:
        """Return which parameters F holds at all, (P,), bool."""
        return torch.stack([term.held() for term in self.terms]).any(0)

    def scaled(self, factor: float) -> SummedCurvature:
        """Return F times a factor, at least 0."""
        return replace(self, weights=tuple(factor * weight for weight in self.weights))

    def placed(self, places: Tensor, shapes: Mapping[str, torch.Size]) -> SummedCurvature:
        """Return F over other parameters; see `Curvature.placed`."""
        return replace(self, terms=tuple(term.placed(places, shapes) for term in self.terms))

    def merged(self, new: SummedCurvature, decay: float) -> SummedCurvature:
        """Return γ F + F′, with the terms of both; for γ = 0 without those of F."""
        if not decay:
            return new
        old = self.scaled(decay)
        return SummedCurvature((*old.terms, *new.terms), (*old.weights, *new.weights))

    @property
    def is_cheap(self) -> bool:
        """Whether all terms' steps are cheap to prepare."""
        return all(term.is_cheap for term in self.terms)

    def step(
        self, layout: FlatLayout, anchor: Tensor, strength: float, rates: float | Tensor
    ) -> SummedStep:
        """Return the steps of all terms in turn; see `Curvature.step`."""
        return SummedStep(
            [term.step(layout, anchor, strength * weight, rates) for weight, term in self._pairs()]
        )

    def _pairs(self) -> list[tuple[float, Curvature]]:
        return [*zip(self.weights, self.terms, strict=True)]


class SummedStep:
    """Several steps, one after another.

    Args:
        steps: The steps.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps

    def __call__(self) -> None:
        """Move the parameters in place."""
        for step in self.steps:
            step()
