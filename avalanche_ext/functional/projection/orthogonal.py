"""Projection of a gradient that removes directions which change earlier outputs (OGD)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_ext.functional.per_sample.chunks import Rows

Outputs = Literal["label", "mean", "all"]

# Unit directions with a shorter remainder count as dependent; well above rounding.
_DEPENDENT = {torch.float32: 1e-5, torch.float64: 1e-11}


def output_rows(outputs: Outputs, y: Tensor) -> Rows:
    """Return a function that gives the rows s of the outputs ⟨s, f(x)⟩ whose gradients are taken.

    Args:
        outputs: "label" takes each sample's logit of its own class (OGD-GTL), so R = 1; "mean" the
            mean of its logits (OGD-AVE), R = 1; "all" each logit by itself (OGD-ALL), R = C.
        y: Labels, (N,); only "label" needs them.

    Raises:
        ValueError: If the name is unknown.
    """
    if outputs == "label":

        def of_label(logits: Tensor, place: Tensor) -> Tensor:
            labels = y[place.to(y.device)].to(logits.device).long()
            return nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)[None]

        return of_label
    if outputs == "mean":
        return lambda logits, place: torch.full_like(logits, 1 / logits.shape[1])[None]
    if outputs == "all":
        return _each_output
    raise ValueError(f"outputs={outputs!r}: must be one of {', '.join(get_args(Outputs))}")


def extended_basis(basis: Tensor, vectors: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of a basis and of further vectors.

    Only the direction of each vector counts. Vectors of length zero, and those that depend on the
    others up to rounding, add nothing. Two passes of block Gram-Schmidt keep the rows orthonormal
    to rounding ("twice is enough", Giraud, Langou and Rozložník 2005).

    Args:
        basis: Orthonormal rows, (K, P); K may be 0.
        vectors: (M, P).

    Returns:
        (K′, P), K ≤ K′ ≤ min(K + M, P); the first K rows are `basis`.

    Raises:
        FloatingPointError: If a vector is infinite or NaN.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    if not bool(torch.isfinite(lengths).all()):
        raise FloatingPointError(
            "a gradient of the model's outputs is infinite or NaN: training has diverged; try a "
            "smaller learning rate"
        )
    is_there = lengths > 0
    new = vectors[is_there] / lengths[is_there, None]
    for _ in range(2):
        new = _orthonormal(project_orthogonally(new, basis))
    return torch.cat([basis, new])


def project_orthogonally(gradient: Tensor, basis: Tensor) -> Tensor:
    """Project gradients onto the orthogonal complement of a subspace.

    Orthogonal gradient descent (Farajtabar, Azizan, Mott and Li 2020, Algorithm 1) solves

        g̃ = argmin ½‖z − g‖²  subject to  ⟨z, v⟩ = 0 for all v in the basis,

    which is g − Σ_v ⟨g, v⟩ v. To first order, a step along g̃ does not change the outputs whose
    gradients the basis spans.

    Args:
        gradient: g, (P,), or several, (M, P).
        basis: Orthonormal rows v, (K, P).

    Returns:
        g̃, in the shape of `gradient`.
    """
    return gradient - (gradient @ basis.T) @ basis


def _each_output(logits: Tensor, place: Tensor) -> Tensor:
    n, n_outputs = logits.shape
    identity = torch.eye(n_outputs, dtype=logits.dtype, device=logits.device)
    return identity[:, None].expand(-1, n, -1)


def _orthonormal(vectors: Tensor) -> Tensor:
    """Return orthonormal rows that span the remainders of vectors of length at most 1, (M, P)."""
    directions, weights = torch.linalg.qr(vectors.T)
    rotation, lengths, _ = torch.linalg.svd(weights, full_matrices=False)
    kept = lengths > _DEPENDENT[vectors.dtype]
    basis: Tensor = rotation[:, kept].T @ directions.T
    return basis
