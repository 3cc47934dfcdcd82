"""The multi-similarity loss and, for speed, its gradient by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from avalanche_ext.functional.representation.rows import (
    check_option,
    check_rows,
    directions,
)

Form = Literal["rows", "matrix", "pairs"]


def multi_similarity_loss(
    representations: Tensor | Sequence[Tensor],
    labels: Tensor,
    alpha: float = 2.0,
    beta: float = 40.0,
    base: float = 0.5,
    form: Form = "rows",
) -> Tensor:
    """Multi-similarity loss (Wang, Han, Huang, Dong and Scott 2019, equation 15, without mining).

    With s the cosine similarity, P_i the other rows of row i's class, N_i those of other classes,
    and λ the base,

        L = 1/B Σ_i { 1/α log[1 + Σ_{k∈P_i} exp(−α (s_ik − λ))]
                    + 1/β log[1 + Σ_{k∈N_i} exp(β (s_ik − λ))] }.

    This is a mean over the B rows of sums over the pairs of each row. A vector no longer than 1e-6
    has the similarity 0 to all others, and a gradient of 0.

    Args:
        representations: h, (B, H); or of several layers, each (B, H_l), over which the loss is
            summed.
        labels: Class labels, (B,).
        alpha: α, how sharply the least similar pairs of one class stand out, above 0.
        beta: β, how sharply the most similar pairs of different classes stand out, above 0.
        base: λ, the similarity that separates the two.
        form: "pairs" is the formula above. "rows" sums over all B entries of each row, with s = 0
            on the diagonal and for all entries that are not pairs of the kind: a pair's weight
            falls with B, and the loss is not 0 if there are no pairs of a kind. "matrix" is the
            current code of Chen, Diethe and Flach (2020): two logarithms for the whole batch
            instead of two for each row, each of a sum over all B² entries, with s = 0 for those
            that are not pairs, still divided by B. On Split MNIST only "rows" reproduces their
            number; on Permuted MNIST the results of "rows" and "matrix" do not differ.

    Returns:
        A scalar, 0 for a single row.

    Raises:
        ValueError: If a shape is wrong, or `form` is unknown.
    """
    layers = [representations] if isinstance(representations, Tensor) else [*representations]
    for layer in layers:
        check_rows(layer, labels)
    check_option("form", form, Form)
    if len(labels) < 2:
        return torch.stack([(0 * h).sum() for h in layers]).sum()
    options = alpha, beta, base, form
    if torch.compiler.is_compiling():  # Traced code can only be differentiated by autograd.
        return _loss_and_gradients(labels, options, layers)[0]
    loss: Tensor = _MultiSimilarity.apply(labels, options, *layers)[0]
    return loss


class _MultiSimilarity(torch.autograd.Function):
    """The loss and its gradients, computed together: autograd would take a third longer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        labels: Tensor, options: tuple[float, float, float, Form], *layers: Tensor
    ) -> tuple[Tensor, ...]:
        loss, gradients = _loss_and_gradients(labels, options, layers)
        return loss, *gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        labels, ctx.options, *layers = inputs
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.save_for_backward(labels, *layers, *gradients)

    @staticmethod
    def backward(ctx: Any, *of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        labels, *saved = ctx.saved_tensors
        n_layers = len(saved) // 2
        gradients = saved[n_layers:]
        if torch.is_grad_enabled():  # Second derivatives may be needed.
            _, gradients = _loss_and_gradients(labels, ctx.options, saved[:n_layers])
        return None, None, *(of_outputs[0] * gradient for gradient in gradients)


def _loss_and_gradients(
    labels: Tensor, options: tuple[float, float, float, Form], layers: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss, a scalar, and its gradients at L layers, each (B, H_l).

    Tensors of two kinds of pairs, those of one class and those of different classes, are
    (2, L, B, B).
    """
    alpha, beta, base, form = options
    n = len(labels)
    units, lengths = zip(*map(directions, layers), strict=True)
    similarities = torch.stack([rows @ rows.T for rows in units])
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    pairs = torch.stack([same, ~same])
    pairs[0].diagonal().zero_()
    pairs = pairs.unsqueeze(1)
    counted = pairs.to(similarities.dtype)
    scales = similarities.new_tensor([-alpha, beta]).view(2, 1, 1, 1)
    exponents = torch.addcmul(-base * scales, similarities, counted * scales)
    if form == "pairs":
        exponents = exponents.masked_fill(~pairs, torch.finfo(exponents.dtype).min)
    dims = (-2, -1) if form == "matrix" else -1
    sums = exponents.logsumexp(dims, keepdim=True)
    soft_maxima = torch.logaddexp(sums, torch.zeros_like(sums))  # The 1 in log[1 + Σ ...].
    loss = (soft_maxima / (scales.abs() * n)).sum()
    weights = torch.exp(exponents - soft_maxima) * counted
    at_similarities = (weights[1] - weights[0]) / n
    at_similarities = at_similarities + at_similarities.mT
    # Only the component of the gradient orthogonal to a direction moves it.
    along = (at_similarities * similarities).sum(-1, keepdim=True)
    gradients = [
        torch.addcmul(each @ rows, rows, part, value=-1) / length
        for each, rows, part, length in zip(at_similarities, units, along, lengths, strict=True)
    ]
    return loss, gradients
