"""Cosines of gradients of pairs of samples, one backward pass for each sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.arrays import Array


def gradient_cosines_by_loops(
    model: nn.Module, x: Tensor, y: Tensor, t: Tensor | None = None
) -> Array:
    """(N, N): of the gradients of the cross-entropies, in eval mode; nan for those of length 0."""
    trained = [p for p in model.parameters() if p.requires_grad]
    modes = [module.training for module in model.modules()]
    model.eval()
    gradients = []
    for n in range(len(x)):
        inputs = (x[n : n + 1],) if t is None else (x[n : n + 1], t[n : n + 1])
        # Zeros, so that what runs through frozen layers alone has gradients too.
        loss = nn.functional.cross_entropy(model(*inputs), y[n : n + 1])
        loss = loss + sum(0 * p.sum() for p in trained)
        pieces = torch.autograd.grad(loss, trained)
        gradients.append(np.concatenate([g.to_dense().double().numpy().ravel() for g in pieces]))
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return cosines_by_loops(gradients)


def cosines_by_loops(vectors: Sequence[Array]) -> Array:
    """(N, N): <a, b> / (|a| |b|) of all pairs; nan for those of length 0."""
    found = np.full((len(vectors), len(vectors)), math.nan)
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            lengths = math.sqrt(sum(v * v for v in a)) * math.sqrt(sum(v * v for v in b))
            if lengths > 0:
                found[i, j] = sum(v * w for v, w in zip(a, b, strict=True)) / lengths
    return found


def pair_numbers_by_loops(
    gradients: Array, representations: Array, labels: Sequence[int], same_class: bool
) -> dict[str, float]:
    """The numbers reported for the pairs i < j of one kind that have both cosines."""
    pairs = [
        (gradients[i, j], representations[i, j])
        for i in range(len(labels))
        for j in range(i + 1, len(labels))
        if (labels[i] == labels[j]) == same_class
        and math.isfinite(gradients[i, j] + representations[i, j])
    ]
    g, h = (np.array(column) for column in zip(*pairs, strict=True))
    return {
        "gradient_mean": g.mean(),
        "gradient_std": g.std(),
        "conflicting": sum(1 for value in g if value < 0) / len(g),
        "conflict_mean": np.mean([value for value in g if value < 0]),
        "representation_mean": h.mean(),
        "correlation": np.corrcoef(g, h)[0, 1],
    }
