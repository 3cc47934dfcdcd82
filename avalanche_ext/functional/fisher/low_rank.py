"""Quadratic penalties: their curvature, merged across tasks, and the step that pulls by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from avalanche_ext.functional.model.gradients import FlatLayout

# A greater strength holds no more firmly, and its products could overflow.
_HARD = 1e30


@dataclass(frozen=True)
class Curvature:
    """A positive semi-definite matrix F = diag(D) + Vᵀ diag(Λ) V over P parameters.

    It says how firmly a penalty (1/2) δᵀ F δ holds each direction. Online EWC, MAS and SI have the
    diagonal alone (k = 0); the Fisher's spectrum adds the directions V.

    Attributes:
        diagonal: D, (P,), at least 0; None stands for zero, and stays None when merged.
        eigenvalues: Λ, (k,), descending, above 0.
        eigenvectors: V, (k, P), with orthonormal rows.
    """

    diagonal: Tensor | None
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of_diagonal(cls, diagonal: Tensor) -> Curvature:
        """Return a diagonal matrix, given its diagonal, (P,)."""
        return cls(diagonal, diagonal.new_empty(0), diagonal.new_empty(0, len(diagonal)))

    @classmethod
    def of_spectrum(
        cls, eigenvalues: Tensor, eigenvectors: Tensor, diagonal: Tensor | None = None
    ) -> Curvature:
        """Return the top eigenpairs of a matrix, and the part of its diagonal that they miss.

        Args:
            eigenvalues: (k,).
            eigenvectors: (k, P).
            diagonal: The diagonal of the whole matrix, (P,); None for the eigenpairs alone.
        """
        if diagonal is not None:
            diagonal = (diagonal - _diagonal_of(eigenvalues, eigenvectors)).clamp_(min=0)
        return cls(diagonal, eigenvalues, eigenvectors)

    def product(self, delta: Tensor) -> Tensor:
        """Return F δ, (P,), of a vector δ, (P,)."""
        if not len(self.eigenvalues) and self.diagonal is not None:
            return self.diagonal * delta
        spectral = self.eigenvectors.T @ (self.eigenvalues * (self.eigenvectors @ delta))
        return spectral if self.diagonal is None else spectral.addcmul_(self.diagonal, delta)

    def penalty(self, delta: Tensor) -> Tensor:
        """Return (1/2) δᵀ F δ, a scalar, of a vector δ, (P,)."""
        return 0.5 * torch.dot(delta, self.product(delta))

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

    def scaled(self, factor: float) -> Curvature:
        """Return F times a factor, at least 0."""
        diagonal = None if self.diagonal is None else factor * self.diagonal
        return replace(self, diagonal=diagonal, eigenvalues=factor * self.eigenvalues)

    def placed(self, places: Tensor, size: int) -> Curvature:
        """Return F over other parameters, with zeros for those that are new.

        Args:
            places: Where each of the P parameters lies now, (P,); -1 for parameters that are gone.
                An eigenvector that loses parameters is no longer orthonormal to the others, but
                products are still those of the remaining part of F.
            size: How many parameters there are now.
        """
        stay = places >= 0
        old, new = stay.nonzero().flatten(), places[stay]

        def moved(rows: Tensor) -> Tensor:
            grown = rows.new_zeros(*rows.shape[:-1], size)
            grown[..., new] = rows[..., old]
            return grown

        diagonal = None if self.diagonal is None else moved(self.diagonal)
        return replace(self, diagonal=diagonal, eigenvectors=moved(self.eigenvectors))

    def merged(self, new: Curvature, decay: float, rank: int) -> Curvature:
        """Return γ F + F′ with only the top eigenpairs of its spectral part, to keep memory at k·P.

        With A = [√(γΛ) V; √Λ′ V′], (k + k′, P), the spectral part is AᵀA. The small matrix
        AAᵀ = W S Wᵀ has the same eigenvalues S, and its eigenvectors lift to S^(-1/2) Wᵀ A. The
        diagonal, if there is one, takes over the diagonal of what is cut off, to keep the trace.

        Args:
            new: F′, over the same parameters.
            decay: γ, from 0 to 1: how much of F is kept.
            rank: How many eigenpairs are kept at most.
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
        eigenvalues, eigenvectors = _top_of_squares(factors, rank)
        if diagonal is not None:
            cut = factors.square_().sum(dim=0) - _diagonal_of(eigenvalues, eigenvectors)
            diagonal = diagonal + cut.clamp_(min=0)
        return Curvature(diagonal, eigenvalues, eigenvectors)


class ProximalStep:
    """Pull parameters towards an anchor, as firmly as a quadratic penalty holds them.

    After an optimizer's step with learning rates η to parameters θ₀, the step solves

        argmin_θ (1/2) (θ − θ₀)ᵀ diag(η)⁻¹ (θ − θ₀) + (λ/2) (θ − θ*)ᵀ F (θ − θ*),

    so that the difference to the anchor, δ = θ − θ*, becomes (I + λ diag(η) F)⁻¹ δ. To first order
    that is a step along the penalty's gradient, δ − ηλFδ, which explodes when ηλ times the largest
    eigenvalue of F exceeds 2. The proximal step shrinks δ at any λ, and for λ → ∞ removes the part
    of δ that F sees. With F = diag(D) + Vᵀ diag(Λ) V, Woodbury's identity makes it two thin
    products:

        z = (I + λ diag(η) D)⁻¹ δ,    δ ← z − R Vᵀ (Λ⁻¹ + V R Vᵀ)⁻¹ V z,

    where R = λη / (1 + ληD). For k = 0 that is δᵢ ← δᵢ / (1 + ληᵢDᵢ).

    Args:
        layout: The parameters that are moved.
        anchor: θ*, (P,).
        curvature: F.
        strength: λ, at least 0.
        rates: η, at least 0, one number or (P,); parameters with rate 0 stay where they are. For an
            adaptive optimizer, diag(η)⁻¹ is its preconditioner.
    """

    def __init__(
        self,
        layout: FlatLayout,
        anchor: Tensor,
        curvature: Curvature,
        strength: float,
        rates: float | Tensor,
    ) -> None:
        self._layout = layout
        self._parameters: list[Tensor] = [*layout.parameters]
        self._anchor = anchor
        self._anchors = layout.pieces(anchor)
        self._vectors = curvature.eigenvectors
        firmness = (torch.as_tensor(rates).to(anchor) * strength).clamp(max=_HARD)
        stiffness = torch.zeros((), dtype=anchor.dtype, device=anchor.device)
        if curvature.diagonal is not None:
            stiffness = (firmness * curvature.diagonal).clamp_(max=_HARD)
        self._weights: list[Tensor] = []
        if curvature.diagonal is not None:
            self._weights = layout.pieces(stiffness / (1 + stiffness))
        if len(self._vectors):
            response = firmness / (1 + stiffness)
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


def _inverse(curvature: Curvature, response: Tensor) -> Tensor:
    """Return (Λ⁻¹ + V R Vᵀ)⁻¹, (k, k), given the diagonal of R, (P,), or one number for all."""
    vectors = curvature.eigenvectors
    if response.dim():
        gram = ((vectors * response) @ vectors.T).double()
    else:
        gram = response.double() * curvature.overlaps
    inverse: Tensor = torch.linalg.inv(gram + torch.diag(curvature.eigenvalues.double() ** -1))
    return inverse.to(vectors)


def _top_of_squares(factors: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the top eigenpairs of AᵀA, (k,) and (k, P), without mere rounding."""
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
