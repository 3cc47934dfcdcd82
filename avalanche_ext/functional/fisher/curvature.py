"""The interface of curvatures for quadratic penalties, whatever their form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from typing_extensions import Self

from avalanche_ext.functional.model.gradients import FlatLayout

Step = Callable[[], None]
"""Moves parameters in place."""

HARD = 1e30
"""A larger λη or ληF would not hold more firmly, and its products could overflow."""


class Curvature(ABC):
    """A positive semi-definite matrix F over P parameters.

    It determines how firmly a penalty (1/2) δᵀ F δ holds each direction. Online EWC, MAS and SI
    keep a diagonal, the Fisher's spectrum adds eigenpairs (`low_rank`), and `kronecker` keeps two
    factors for each layer.
    """

    @abstractmethod
    def product(self, delta: Tensor) -> Tensor:
        """Return F δ, (P,), of a vector δ, (P,)."""

    def penalty(self, delta: Tensor) -> Tensor:
        """Return (1/2) δᵀ F δ, a scalar, of a vector δ, (P,)."""
        return 0.5 * torch.dot(delta, self.product(delta))

    @property
    @abstractmethod
    def trace(self) -> float:
        """The sum of all eigenvalues of F."""

    @property
    @abstractmethod
    def largest(self) -> float:
        """A lower bound of the largest eigenvalue of F."""

    @property
    def known_eigenvalues(self) -> Tensor | None:
        """All non-zero eigenvalues, (k,), in any order, if they are known without a search."""
        return None

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of parameters, P."""

    @property
    @abstractmethod
    def n_bytes(self) -> int:
        """The memory that F takes."""

    @abstractmethod
    def held(self) -> Tensor:
        """Return which parameters F holds at all, (P,), bool."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return F times a factor, at least 0."""

    @abstractmethod
    def placed(self, places: Tensor, shapes: Mapping[str, torch.Size]) -> Self:
        """Return F over other parameters, with zeros for those that are new.

        Args:
            places: The new index of each of the P parameters, (P,); -1 for parameters that are
                gone.
            shapes: The shapes of the current parameters, by name, in their order.
        """

    @abstractmethod
    def merged(self, new: Self, decay: float) -> Self:
        """Return γ F + F′, or an approximation of it in the same memory.

        Args:
            new: F′, over the same parameters.
            decay: γ, from 0 to 1, the share of F that is kept.
        """

    @property
    @abstractmethod
    def is_cheap(self) -> bool:
        """Whether preparing a step costs no more than taking it."""

    @abstractmethod
    def step(
        self, layout: FlatLayout, anchor: Tensor, strength: float, rates: float | Tensor
    ) -> Step:
        """Return a step that pulls parameters towards an anchor, as firmly as F holds them.

        After an optimizer's step with learning rates η to parameters θ₀, the step solves

            argmin_θ (1/2) (θ − θ₀)ᵀ diag(η)⁻¹ (θ − θ₀) + (λ/2) (θ − θ*)ᵀ F (θ − θ*),

        so that the difference to the anchor, δ = θ − θ*, becomes (I + λ diag(η) F)⁻¹ δ. To first
        order that is a step along the penalty's gradient, δ − ηλFδ, which explodes when ηλ times
        the largest eigenvalue of F exceeds 2. The proximal step shrinks δ at any λ, and for λ → ∞
        removes the part of δ that F sees.

        Args:
            layout: The parameters that are moved.
            anchor: θ*, (P,).
            strength: λ, at least 0.
            rates: η, at least 0, one number or (P,); parameters with rate 0 do not move. For an
                adaptive optimizer, diag(η)⁻¹ is its preconditioner.
        """


def firmness(strength: float, rates: float | Tensor, like: Tensor) -> Tensor:
    """Return λη, a scalar or (P,), as a finite tensor of the same type and device as another."""
    return (torch.as_tensor(rates).to(like) * strength).clamp(max=HARD)


def shrinkage(stiffness: Tensor) -> Tensor:
    """Return s / (1 + s), the share of δ that a step removes if ληF is s ≥ 0."""
    stiffness = stiffness.clamp(max=HARD)
    return stiffness / (1 + stiffness)
