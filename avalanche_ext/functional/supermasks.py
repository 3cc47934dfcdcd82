"""Masks over fixed random weights, and inference of a sample's mask (SupSup)."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Inference = Literal["one_shot", "binary"]


def supermask(scores: Tensor, share: float | None = None) -> Tensor:
    """Return the mask of ones and zeros that scores define; its gradient passes on to the scores.

    The straight-through estimate sets the derivative of the mask with respect to its score to 1
    (Ramanujan, Wortsman et al. 2020, "What's hidden in a randomly weighted neural network?",
    arXiv:1911.13299, equation 4; Wortsman et al. 2020, "Supermasks in superposition",
    arXiv:2006.14769).

    Args:
        scores: Any shape.
        share: The share of ones, above 0 and at most 1: the scores of largest magnitude, at least
            one, and the first among equal ones. None: all scores of at least 0.

    Returns:
        The mask, in the scores' shape and type.
    """
    if share is None:
        return _straight_through(scores >= 0, scores)
    sizes = scores.abs()
    n_ones = max(1, round(share * scores.numel()))
    order = sizes.detach().flatten().sort(descending=True, stable=True).indices
    ones = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    ones[order[:n_ones]] = True
    return _straight_through(ones.view_as(scores), sizes)


def signed_constant(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw weights ±√(2 / fan_in), the standard deviation of He et al. (2015), with random signs.

    Args:
        shape: Of a linear layer or a convolution: outputs, inputs, kernel.
        generator: Generator of the signs, on the CPU.
    """
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return signs * sqrt(2 / fan_in)


def infer_tasks(
    outputs: Callable[[Tensor], Tensor], alpha: Tensor, method: Inference = "one_shot"
) -> Tensor:
    """Return the task whose mask lowers the entropy of each sample's prediction fastest.

    With weights W ⊙ Σ_i α_i M_i and equal α_i = 1/T, the entropy H of the softmax of the outputs
    changes at the rate ∂H/∂α_i as mask i gets more weight. "one_shot" takes the task with the
    smallest rate, argmax_i −∂H/∂α_i (Wortsman et al. 2020, arXiv:2006.14769, section 3.3). "binary"
    keeps the better half of the tasks, mixes only these, and repeats this in ⌈log₂ T⌉ passes.

    Args:
        outputs: Returns logits (B, C) for coefficients (B, T), and treats samples independently.
        alpha: Any tensor of the shape, type and device of the coefficients, (B, T), T ≥ 1.
        method: "one_shot" or "binary".

    Returns:
        Indices of tasks, (B,).

    Raises:
        ValueError: If the method is unknown.
    """
    if method not in get_args(Inference):
        raise ValueError(f"method={method!r}: must be one of {', '.join(get_args(Inference))}")
    kept = torch.ones_like(alpha, dtype=torch.bool)
    n_kept = alpha.shape[1]
    while n_kept > 1:
        mixed = (kept / n_kept).to(alpha.dtype).requires_grad_()
        with torch.enable_grad():
            logarithms = outputs(mixed).log_softmax(1)
            entropy = -(logarithms.exp() * logarithms).sum()
            (rates,) = torch.autograd.grad(entropy, mixed)
        n_kept = 1 if method == "one_shot" else (n_kept + 1) // 2
        best = rates.masked_fill(~kept, torch.inf).sort(dim=1, stable=True).indices[:, :n_kept]
        kept = torch.zeros_like(kept).scatter_(1, best, True)
    return kept.int().argmax(1)


def _straight_through(mask: Tensor, scores: Tensor) -> Tensor:
    """Return the mask, with the identity as its derivative with respect to the scores."""
    return mask.to(scores.dtype) + (scores - scores.detach())
