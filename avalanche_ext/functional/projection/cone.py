"""The exact projection of a gradient, one set of violated constraints after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.functional.projection.dual import DualSolver, Floats, solve_dual

# Allowed violation of a constraint, relative to the lengths of projection and reference: slightly
# above the rounding error of an inner product.
_SLACK = {torch.float32: 2e-7, torch.float64: 1e-12}
# A projection is repeated if a cosine is below the first value, or if its length relative to its
# summands is below the second; in double precision, below the third everything is rounding.
_WORST_COSINE, _SHORT, _NOTHING = -5e-7, 1e-3, 1e-12


class Cone:
    """The projection of one gradient g, (P,), onto the cone that the references G, (T, P), define.

    With the dual variables v = γ + w, w ≥ 0, the projection is z = g₀ + Gᵀw, where g₀ = g + γ Σ_k
    g_k. Most w are 0, so only a working set is solved: first the constraints that g₀ violates, then
    also those that the resulting z violates, and so on. Once z violates none, it is the solution
    for all constraints. Everything of size P stays in torch; the dual of the working set goes to
    NumPy in double precision.

    Args:
        gradient: g, (P,).
        references: G, (T, P).
        memory_strength: γ, at least 0.

    Attributes:
        projected: z, (P,), the solution for the working set so far.

    Raises:
        FloatingPointError: If g or G are not finite.
    """

    def __init__(self, gradient: Tensor, references: Tensor, memory_strength: float) -> None:
        self.references = references
        self.memory_strength = memory_strength
        self.lengths = torch.linalg.vector_norm(references, dim=1)
        self.length = torch.linalg.vector_norm(gradient)
        if not bool(torch.isfinite(self.lengths).all() & torch.isfinite(self.length)):
            raise not_finite()
        self.start = gradient
        if memory_strength:
            self.start = gradient + memory_strength * references.sum(dim=0)
        self.projected = self.start
        self.members = torch.zeros(0, dtype=torch.int64, device=gradient.device)
        self._rows = torch.zeros(0, len(gradient), dtype=torch.float64, device=gradient.device)
        self._weights = self._rows.new_zeros(0)

    def grow(self) -> bool:
        """Add the violated constraints to the working set, and return whether there are any."""
        allowed = _SLACK[self.projected.dtype] * self._projected_length() * self.lengths
        violated = self.references @ self.projected < -allowed
        violated[self.members] = False
        new = violated.nonzero().flatten()
        if not len(new):
            return False
        self.members = torch.cat([self.members, new])
        self._rows = torch.cat([self._rows, self.references[new].double()])
        return True

    def dual_problem(self) -> tuple[Floats, Floats]:
        """Return the Gram matrix, (n, n), and the linear term, (n,), of the working set's dual."""
        gram = self._rows @ self._rows.T
        linear = self._rows @ self.start.double()
        return gram.cpu().numpy(), linear.cpu().numpy()

    def move(self, weights: Floats) -> None:
        """Set the projection from the weights w of the working set, (n,)."""
        self._weights = torch.as_tensor(weights, device=self._rows.device)
        projected = torch.addmv(self.start.double(), self._rows.T, self._weights)
        self.projected = projected.to(self.start.dtype)

    def without_rounding(self, vector: Tensor) -> Tensor:
        """Return a refined projection, (P,), or zeros if it is mere rounding."""
        is_nothing = torch.linalg.vector_norm(vector) <= _NOTHING * self._summed_length()
        return torch.zeros_like(vector) if is_nothing else vector

    @property
    def duals(self) -> Tensor:
        """The dual variables v, (T,)."""
        duals = torch.full_like(self.lengths, self.memory_strength, dtype=torch.float64)
        duals[self.members] += self._weights
        return duals

    @property
    def is_rough(self) -> bool:
        """Whether cancellation was so strong that the constraints are not met."""
        if not len(self.members):
            return False
        return is_rough(self.projected, self._summed_length(), self.references, self.lengths)

    def _projected_length(self) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(self.projected)
        return length

    def _summed_length(self) -> Tensor:
        length: Tensor = self.length + self.duals @ self.lengths.double()
        return length


def is_rough(projected: Tensor, summed: Tensor, references: Tensor, lengths: Tensor) -> bool:
    """Return whether a projection must be repeated in double precision.

    Args:
        projected: z, (P,).
        summed: The summed lengths of the vectors that make up z, a scalar.
        references: G, (T, P).
        lengths: Their lengths, (T,).
    """
    length = torch.linalg.vector_norm(projected)
    lowest = references @ projected - _WORST_COSINE * length * lengths
    return not bool((length > _SHORT * summed) & (lowest >= 0).all())


def settle(cones: Sequence[Cone], solver: DualSolver) -> None:
    """Project onto each cone, solving the dual problems of all cones as one batch."""
    unsettled = [cone for cone in cones if cone.grow()]
    while unsettled:
        largest = max(len(cone.members) for cone in unsettled)
        gram = np.zeros((len(unsettled), largest, largest))
        linear = np.zeros((len(unsettled), largest))
        for i, cone in enumerate(unsettled):
            n = len(cone.members)
            gram[i, :n, :n], linear[i, :n] = cone.dual_problem()
        solutions = solve_dual(gram, linear, solver)
        for cone, weights in zip(unsettled, solutions, strict=True):
            cone.move(weights[: len(cone.members)])
        unsettled = [cone for cone in unsettled if cone.grow()]


def not_finite() -> FloatingPointError:
    """Return the error for gradients that are infinite or NaN."""
    return FloatingPointError(
        "a gradient or reference gradient is infinite, NaN or too large to be squared: training "
        "has diverged; a smaller learning rate or memory_strength usually helps"
    )
