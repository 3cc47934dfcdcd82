"""A curvature made of a diagonal and a few eigenpairs, and its proximal step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.curvature import HARD, Curvature, firmness, shrinkage
from avalanche_ext.functional.model.gradients import FlatLayout


@dataclass(frozen=True)
class LowRankCurvature(Curvature):
    """F = diag(D) + Vᵀ diag(Λ) V over P parameters.

    Online EWC, MAS and SI have only the diagonal (k = 0); spectrum EWC adds the directions V.

    Attributes:
        diagonal: D, (P,), at least 0; None stands for zero, and stays None when merged.
        eigenvalues: Λ, (k,), descending, above 0.
        eigenvectors: V, (k, P), with orthonormal rows.
        rank: Maximum number of eigenpairs that a merged F keeps.
    """

    diagonal: Tensor | None
    eigenvalues: Tensor
    eigenvectors: Tensor
    rank: int = 0

    @classmethod
    def of_diagonal(cls, diagonal: Tensor) -> LowRankCurvature:
        """Return a diagonal matrix, given its diagonal, (P,)."""
        return cls(diagonal, diagonal.new_empty(0), diagonal.new_empty(0, len(diagonal)))

    @classmethod
    def of_spectrum(
        cls,
        eigenvalues: Tensor,
        eigenvectors: Tensor,
        diagonal: Tensor | None = None,
        rank: int = 0,
    ) -> LowRankCurvature:
        """Return the top eigenpairs of a matrix, and the part of its diagonal that they miss.

        Args:
            eigenvalues: (k,).
            eigenvectors: (k, P).
            diagonal: The diagonal of the whole matrix, (P,); None for the eigenpairs alone.
            rank: Maximum number of eigenpairs that a sum with others keeps.
        """
        if diagonal is not None:
            diagonal = (diagonal - _diagonal_of(eigenvalues, eigenvectors)).clamp_(min=0)
        return cls(diagonal, eigenvalues, eigenvectors, rank)

    def product(self, delta: Tensor) -> Tensor:
        """Return F δ, (P,), of a vector δ, (P,)."""
        if not len(self.eigenvalues) and self.diagonal is not None:
            return self.diagonal * delta
        spectral = self.eigenvectors.T @ (self.eigenvalues * (self.eigenvectors @ delta))
        return spectral if self.diagonal is None else spectral.addcmul_(self.diagonal, delta)

    @cached_property
    def overlaps(self) -> Tensor:
        """V Vᵀ, (k, k), in double precision: the identity, up to rounding and lost parameters."""
        return (self.eigenvectors @ self.eigenvectors.T).double()

    @property
    def trace(self) -> float:
        """The sum of all eigenvalues of F."""
        rest = 0.0 if self.diagonal is None else float(self.diagonal.sum())
        return float(self.eigenvalues.sum()) + rest

    @property
    def largest(self) -> float:
        """A lower bound of the largest eigenvalue of F; exact if the diagonal or k is zero."""
        parts = [part for part in (self.diagonal, self.eigenvalues) if part is not None]
        return max((float(part.max()) for part in parts if len(part)), default=0.0)

    @property
    def known_eigenvalues(self) -> Tensor | None:
        """Λ or the diagonal, if the other one is empty."""
        if self.diagonal is None:
            return self.eigenvalues
        return None if len(self.eigenvalues) else self.diagonal

    @property
    def size(self) -> int:
        """The number of parameters, P."""
        return self.eigenvectors.shape[1]

    @property
    def n_bytes(self) -> int:
        """The memory of D, Λ and V."""
        parts = (self.diagonal, self.eigenvalues, self.eigenvectors)
        return sum(part.nbytes for part in parts if part is not None)

    def held(self) -> Tensor:
        """Return which parameters F holds at all, (P,), bool."""
        held = self.eigenvectors.ne(0).any(dim=0)
        return held if self.diagonal is None else held | self.diagonal.ne(0)

    def scaled(self, factor: float) -> LowRankCurvature:
        """Return F times a factor, at least 0."""
        diagonal = None if self.diagonal is None else factor * self.diagonal
        return replace(self, diagonal=diagonal, eigenvalues=factor * self.eigenvalues)

    def placed(self, places: Tensor, shapes: Mapping[str, torch.Size]) -> LowRankCurvature:
        """Return F over other parameters; see `Curvature.placed`.

        Eigenvectors that lose parameters are no longer orthonormal, but products are still those of
        the remaining part of F.
        """
        stay = places >= 0
        old, new = stay.nonzero().flatten(), places[stay]
        size = sum(shape.numel() for shape in shapes.values())

        def moved(rows: Tensor) -> Tensor:
            grown = rows.new_zeros(*rows.shape[:-1], size)
            grown[..., new] = rows[..., old]
            return grown

        diagonal = None if self.diagonal is None else moved(self.diagonal)
        return replace(self, diagonal=diagonal, eigenvectors=moved(self.eigenvectors))

    def merged(self, new: LowRankCurvature, decay: float) -> LowRankCurvature:
        """Return γ F + F′ with only the top eigenpairs of its spectral part, to keep memory at k·P.

        With A = [√(γΛ) V; √Λ′ V′], (k + k′, P), the spectral part is AᵀA. The small matrix AAᵀ = W
        S Wᵀ has the same eigenvalues S, and its eigenvectors lift to S^(-1/2) Wᵀ A. The diagonal,
        if there is one, absorbs the diagonal of the part that is cut off, which keeps the trace.
        """
        diagonals = [
            part.diagonal if factor == 1 else factor * part.diagonal
            for part, factor in ((self, decay), (new, 1.0))
            if part.diagonal is not None
        ]
        diagonal = sum(diagonals[1:], start=diagonals[0]) if diagonals else None
        if not len(self.eigenvalues) and not len(new.eigenvalues):
            return replace(new, diagonal=diagonal)
        factors = torch.cat(
            [
                (decay * self.eigenvalues).sqrt()[:, None] * self.eigenvectors,
                new.eigenvalues.sqrt()[:, None] * new.eigenvectors,
            ]
        )
        eigenvalues, eigenvectors = _top_of_squares(factors, self.rank)
        if diagonal is not None:
            cut = factors.square_().sum(dim=0) - _diagonal_of(eigenvalues, eigenvectors)
            diagonal = diagonal + cut.clamp_(min=0)
        return replace(self, diagonal=diagonal, eigenvalues=eigenvalues, eigenvectors=eigenvectors)

    @property
    def is_cheap(self) -> bool:
        """Whether there are no eigenpairs: the inverse of a step with them costs about k steps."""
        return not len(self.eigenvalues)

    def step(
        self, layout: FlatLayout, anchor: Tensor, strength: float, rates: float | Tensor
    ) -> LowRankStep:
        """Return a step that pulls parameters towards an anchor; see `Curvature.step`."""
        return LowRankStep(layout, anchor, self, firmness(strength, rates, anchor))


class LowRankStep:
    """The step of `Curvature.step` for F = diag(D) + Vᵀ diag(Λ) V.

    Woodbury's identity makes (I + λ diag(η) F)⁻¹ δ two thin products:

        z = (I + λ diag(η) D)⁻¹ δ,    δ ← z − R Vᵀ (Λ⁻¹ + V R Vᵀ)⁻¹ V z,

    where R = λη / (1 + ληD). For k = 0 that is δᵢ ← δᵢ / (1 + ληᵢDᵢ).

    Args:
        layout: The parameters that are moved.
        anchor: θ*, (P,).
        curvature: F.
        firmness: λη, one number or (P,).
    """

    def __init__(
        self, layout: FlatLayout, anchor: Tensor, curvature: LowRankCurvature, firmness: Tensor
    ) -> None:
        self._layout = layout
        self._parameters: list[Tensor] = [*layout.parameters]
        self._anchor = anchor
        self._anchors = layout.pieces(anchor)
        self._vectors = curvature.eigenvectors
        self._weights: list[Tensor] = []
        response = firmness
        if curvature.diagonal is not None:
            stiffness = firmness * curvature.diagonal
            response = firmness / (1 + stiffness.clamp(max=HARD))
            self._weights = layout.pieces(shrinkage(stiffness))
        if len(self._vectors):
            self._responses = layout.pieces(response.expand_as(anchor))
            self._inverse = _inverse(curvature, response)

    @torch.no_grad()
    def __call__(self) -> None:
        """Move the parameters in place."""
        if self._weights:
            torch._foreach_lerp_(self._parameters, self._anchors, self._weights)
        if len(self._vectors):
            delta = self._layout.flatten(self._parameters).sub_(self._anchor)
            seen = self._vectors.T @ (self._inverse @ (self._vectors @ delta))
            pieces = self._layout.pieces(seen)
            torch._foreach_addcmul_(self._parameters, pieces, self._responses, value=-1)


def _inverse(curvature: LowRankCurvature, response: Tensor) -> Tensor:
    """Return (Λ⁻¹ + V R Vᵀ)⁻¹, (k, k), given the diagonal of R, (P,), or one number for all."""
    vectors = curvature.eigenvectors
    if response.dim():
        gram = ((vectors * response) @ vectors.T).double()
    else:
        gram = response.double() * curvature.overlaps
    inverse: Tensor = torch.linalg.inv(gram + torch.diag(curvature.eigenvalues.double() ** -1))
    return inverse.to(vectors)


def _top_of_squares(factors: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the top eigenpairs of AᵀA, (k,) and (k, P), without those that are mere rounding."""
    gram = (factors @ factors.T).double()
    ascending, vectors = torch.linalg.eigh(gram)
    rounding = len(gram) * torch.finfo(factors.dtype).eps * ascending[-1].clamp(min=0)
    k = min(rank, int((ascending > rounding).sum()))
    eigenvalues = ascending.flip(0)[:k]
    weights = vectors.flip(1)[:, :k] / eigenvalues.sqrt()
    return eigenvalues.to(factors), weights.T.to(factors) @ factors


def _diagonal_of(eigenvalues: Tensor, eigenvectors: Tensor) -> Tensor:
    """Return the diagonal of Vᵀ diag(Λ) V, (P,)."""
    diagonal = torch.zeros_like(eigenvectors[0]) if len(eigenvectors) else eigenvectors.sum(dim=0)
    for value, vector in zip(eigenvalues.tolist(), eigenvectors, strict=True):
        diagonal.addcmul_(vector, vector, value=value)
    return diagonal
