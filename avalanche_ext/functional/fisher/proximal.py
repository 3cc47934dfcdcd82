"""The proximal step of a quadratic penalty: a pull that is stable at any strength."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.model.gradients import FlatLayout

# Strengths above this hold as firmly, and their products do not overflow.
_HARD = 1e30


class ProximalStep:
    """Pull parameters towards an anchor, as firmly as a quadratic penalty holds them.

    After an optimizer's step with learning rates η to parameters θ₀, the step solves

        argmin_θ (1/2) (θ − θ₀)ᵀ diag(η)⁻¹ (θ − θ₀) + (λ/2) (θ − θ*)ᵀ F (θ − θ*),

    so that the difference to the anchor, δ = θ − θ*, becomes (I + λ diag(η) F)⁻¹ δ. A step along
    the penalty's gradient, δ − ηλFδ, is its first order, and explodes when ηλ times the largest
    eigenvalue of F exceeds 2; this one shrinks δ at any λ, and for λ → ∞ removes the part that F
    sees. With F = diag(D) + Vᵀ diag(Λ) V, Woodbury's identity makes it two thin products:

        z = (I + λ diag(η) D)⁻¹ δ,    δ ← z − R Vᵀ (Λ⁻¹ + V R Vᵀ)⁻¹ V z,

    where R = λη / (1 + ληD). For k = 0 that is δᵢ ← δᵢ / (1 + ληᵢDᵢ).

    Args:
        layout: The parameters that are moved.
        anchor: θ*, (P,).
        curvature: F.
        strength: λ, at least 0.
        rates: η, at least 0, one number or (P,); parameters of rate 0 stay where they are.
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
