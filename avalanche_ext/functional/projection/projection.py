"""GEM's projection of a gradient onto the cone in which no past task's loss increases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from avalanche_ext.functional.projection.cone import Cone, is_rough, not_finite, settle
from avalanche_ext.functional.projection.dual import DualSolver

Solver = Literal["exact", "quadprog", "pivoting", "diagonal"]
SOLVERS = get_args(Solver)


@dataclass(frozen=True)
class Projection:
    """A projected gradient, and the state of its constraints.

    Attributes:
        gradient: z, (P,).
        violated: Whether ⟨g, g_k⟩ < 0, by block and reference, (B, T).
        active: Whether the dual variable v_k lies above its bound, by block and reference, (B, T).
    """

    gradient: Tensor
    violated: Tensor
    active: Tensor


def project_gradient(
    gradient: Tensor,
    references: Tensor,
    memory_strength: float = 0.0,
    solver: Solver = "exact",
    *,
    blocks: Sequence[int] | None = None,
) -> Tensor:
    """Project a gradient so that it opposes no reference gradient (GEM, mGEM).

    GEM (Lopez-Paz and Ranzato 2017, equations 8-11) solves

        z = argmin ½‖z − g‖²  subject to  ⟨z, g_k⟩ ≥ 0 for all k

    in the dual, v = argmin ½ vᵀGGᵀv + (Gg)ᵀv subject to v ≥ γ, with z = g + Gᵀv. A gradient that
    violates no constraint is not changed; once one is violated, every dual variable is at least γ.
    Modular GEM (Liu et al. 2024) does this for each block of parameters separately, or replaces GGᵀ
    by its diagonal, which is exact for orthogonal references: v_k = max(γ, −⟨g, g_k⟩ / ‖g_k‖²).

    Deviations from GEM's official code:

    1. No ridge of 1e-3 is added to GGᵀ, as it breaks the constraints of small gradients. The
       worst cosine between z and a reference is at least −1e-6 at any scale, and z is 0 where only
       rounding is left.

    Args:
        gradient: g, (P,), float32 or float64.
        references: G, (T, P), one reference gradient in each row, of g's dtype and device. Rows may
            be zero, equal, or linearly dependent.
        memory_strength: γ, at least 0.
        solver: "exact": A-GEM's formula for one constraint, "quadprog" for a few, and block
            "pivoting" for many. "quadprog" and "pivoting" can also be chosen by name. "diagonal" is
            mGEM's approximation.
        blocks: Sizes, with the sum P, of consecutive blocks of coordinates that are projected
            separately; None for one block.

    Returns:
        z, (P,); `gradient` itself where it violates nothing.

    Raises:
        ValueError: If an argument is out of range or shapes do not fit.
        FloatingPointError: If a constraint is violated and there are infinite numbers or NaN.

    Examples:
        >>> g, past = torch.tensor([1.0, -2.0]), torch.tensor([[0.0, 1.0]])
        >>> project_gradient(g, past)
        tensor([1., 0.])
        >>> project_gradient(g, past, memory_strength=3.0)
        tensor([1., 1.])
    """
    return project(gradient, references, memory_strength, solver, blocks=blocks).gradient


def project(
    gradient: Tensor,
    references: Tensor,
    memory_strength: float = 0.0,
    solver: Solver = "exact",
    *,
    blocks: Sequence[int] | None = None,
) -> Projection:
    """Project as `project_gradient` does, and return which constraints were violated or active."""
    sizes = [gradient.numel()] if blocks is None else [*blocks]
    _check(gradient, references, memory_strength, solver, sizes)
    pieces = [
        *zip(torch.split(gradient, sizes), torch.split(references, sizes, dim=1), strict=True)
    ]
    products = torch.stack([G @ g for g, G in pieces])
    violated = ~(products >= 0)  # NaN must count as a violation.
    active = torch.zeros_like(violated)
    touched = violated.any(dim=1).nonzero().flatten().tolist()
    if not touched:
        return Projection(gradient, violated, active)
    if not bool(torch.isfinite(products).all()):
        raise not_finite()
    projected = [g for g, _ in pieces]
    if solver != "diagonal" and memory_strength > 0:
        touched = _move_to_bound(projected, pieces, touched, memory_strength)
    if touched:
        chosen = [pieces[block] for block in touched]
        if solver == "diagonal":
            moved, duals = _diagonal(chosen, products[touched], memory_strength)
        else:
            moved, duals = _exact(chosen, products[touched], memory_strength, solver)
        active[touched] = duals > memory_strength
        for block, z in zip(touched, moved, strict=True):
            projected[block] = z
    return Projection(torch.cat(projected), violated, active)


def _move_to_bound(
    projected: list[Tensor],
    pieces: Sequence[tuple[Tensor, Tensor]],
    blocks: Sequence[int],
    memory_strength: float,
) -> list[int]:
    """Project the blocks that v = γ solves, and return the others.

    With γ > 0, v = γ solves most blocks. There the gradient of the dual is Gz, so z is the solution
    if it violates nothing, and no Gram matrix is needed.
    """
    starts = [pieces[b][0] + memory_strength * pieces[b][1].sum(dim=0) for b in blocks]
    slack = torch.stack([pieces[b][1] @ z for b, z in zip(blocks, starts, strict=True)])
    others = []
    for block, z, is_solved in zip(blocks, starts, (slack >= 0).all(dim=1).tolist(), strict=True):
        if is_solved:
            projected[block] = z
        else:
            others.append(block)
    return others


def _diagonal(
    pieces: Sequence[tuple[Tensor, Tensor]], products: Tensor, memory_strength: float
) -> tuple[list[Tensor], Tensor]:
    """Return mGEM's approximation for each block, and its dual variables, (B, T)."""
    lengths = torch.stack([torch.linalg.vector_norm(G, dim=1) for _, G in pieces])
    lengths = torch.where(lengths > 0, lengths, 1.0)
    duals = (-products / lengths / lengths).clamp(min=memory_strength)
    return [g + v @ G for (g, G), v in zip(pieces, duals, strict=True)], duals


def _exact(
    pieces: Sequence[tuple[Tensor, Tensor]],
    products: Tensor,
    memory_strength: float,
    solver: DualSolver,
) -> tuple[list[Tensor], Tensor]:
    """Return the projection of each block, and its dual variables, (B, T)."""
    if solver == "exact" and products.shape[1] == 1:
        # With a single reference the diagonal is exact.
        moved, duals = _diagonal(pieces, products, memory_strength)
        if not any(map(_is_rough, pieces, moved, duals)):
            return moved, duals
    cones = [Cone(g, G, memory_strength) for g, G in pieces]
    settle(cones, solver)
    rough = [i for i, cone in enumerate(cones) if cone.is_rough]
    for i in rough:
        g, G = pieces[i]
        cones[i] = Cone(g.double(), G.double(), memory_strength)
    settle([cones[i] for i in rough], solver)
    # What remains of a nearly cancelled gradient is mostly rounding: project again.
    again = [Cone(cones[i].projected, cones[i].references, 0.0) for i in rough]
    settle(again, solver)
    projected = [cone.projected for cone in cones]
    for i, cone in zip(rough, again, strict=True):
        projected[i] = cones[i].without_rounding(cone.projected)
    dtype = pieces[0][0].dtype
    return [z.to(dtype) for z in projected], torch.stack([cone.duals for cone in cones])


def _is_rough(piece: tuple[Tensor, Tensor], projected: Tensor, duals: Tensor) -> bool:
    """Return whether rounding is noticeable, or anything is infinite or NaN."""
    gradient, references = piece
    lengths = torch.linalg.vector_norm(references, dim=1)
    summed = torch.linalg.vector_norm(gradient) + duals @ lengths
    return is_rough(projected, summed, references, lengths)


def _check(
    gradient: Tensor, references: Tensor, memory_strength: float, solver: str, sizes: Sequence[int]
) -> None:
    if gradient.dim() != 1:
        raise ValueError(f"gradient must be a vector, but has shape {tuple(gradient.shape)}")
    if references.dim() != 2 or references.shape[1] != len(gradient):
        raise ValueError(
            f"references must have shape (T, {len(gradient)}), as gradient has, "
            f"but have shape {tuple(references.shape)}"
        )
    if gradient.dtype not in (torch.float32, torch.float64) or references.dtype != gradient.dtype:
        raise ValueError(
            "gradient and references must both be float32 or both float64, "
            f"but are {gradient.dtype} and {references.dtype}"
        )
    if not 0 <= memory_strength < math.inf:
        raise ValueError(f"memory_strength must be finite and at least 0, but is {memory_strength}")
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, but is {solver!r}")
    if sum(sizes) != len(gradient) or any(size < 1 for size in sizes):
        raise ValueError(f"blocks must be positive and sum to {len(gradient)}, but are {[*sizes]}")
