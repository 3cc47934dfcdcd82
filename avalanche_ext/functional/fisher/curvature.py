"""The curvature of quadratic penalties: a diagonal and a few directions, merged across tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Curvature:
    """A positive semi-definite matrix F = diag(D) + Vᵀ diag(Λ) V over P parameters.

    It stands for what a penalty (1/2) δᵀ F δ holds in place: the diagonal alone (k = 0) is that of
    online EWC, MAS and SI, the directions those of the Fisher's spectrum.

    Attributes:
        diagonal: D, (P,), at least 0; None is zero, and stays so when truncated.
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
        """Return the top eigenpairs of a matrix, and what they leave of its diagonal.

        Args:
            eigenvalues: (k,).
            eigenvectors: (k, P).
            diagonal: That of the whole matrix, (P,); None for the eigenpairs alone.
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
        """V Vᵀ, (k, k), in double precision: the identity but for rounding, or lost parameters."""
        return (self.eigenvectors @ self.eigenvectors.T).double()

    @property
    def trace(self) -> float:
        """The sum of all eigenvalues of F."""
        rest = 0.0 if self.diagonal is None else float(self.diagonal.sum())
        return float(self.eigenvalues.sum()) + rest

    @property
    def largest(self) -> float:
        """A lower bound of the largest eigenvalue of F, and that itself where either part is 0."""
        parts = [part for part in (self.diagonal, self.eigenvalues) if part is not None]
        return max((float(part.max()) for part in parts if len(part)), default=0.0)

    def scaled(self, factor: float) -> Curvature:
        """Return F times a factor, at least 0."""
        diagonal = None if self.diagonal is None else factor * self.diagonal
        return replace(self, diagonal=diagonal, eigenvalues=factor * self.eigenvalues)

    def placed(self, places: Tensor, size: int) -> Curvature:
        """Return F over other parameters, with zeros for those that are new.

        Args:
            places: Where each of the P parameters lies now, (P,); -1 for those that are gone. Of
                an eigenvector that loses parameters, what is left is no longer orthonormal to
                the others; products stay those of the remaining part of F.
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
        """Return γ F + F′ with the top eigenpairs of its spectral part, so that memory stays k·P.

        With A = [√(γΛ) V; √Λ′ V′], (k + k′, P), the spectral part is AᵀA. The small matrix
        AAᵀ = W S Wᵀ has its eigenvalues S, and its eigenvectors lift to S^(-1/2) Wᵀ A. Where
        there is a diagonal, it takes the diagonal of what is cut off, so that the trace is kept.

        Args:
            new: F′, over the same parameters.
            decay: γ, from 0 to 1: how much of F is kept.
            rank: The most eigenpairs that are kept.
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


def _top_of_squares(factors: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the top eigenpairs of AᵀA, (k,) and (k, P), without those that are rounding."""
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
