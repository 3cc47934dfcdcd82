"""Bayesian gradient descent (BGD): online variational Bayes with a diagonal Gaussian."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import Criterion, outputs_at


def bayesian_step(
    mean: Tensor, std: Tensor, draws: Iterable[tuple[Tensor, Tensor]], lr: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Update a diagonal Gaussian over the weights θ by one mini-batch.

    Zeno, Golan, Hoffer and Soudry (2018) take the current Gaussian, q′ = N(μ′, σ′²), as the prior
    for the next mini-batch, whose loss L is a negative log-likelihood, and solve

        argmin_q E_q[log q(θ) − log q′(θ) + L(θ)].

    over q = N(μ, σ²). With θ = μ + σε, ε from N(0, 1) and g = ∇L(θ), its stationary point has
    (μ − μ′) / σ′² = −E[g] and σ / σ′² − 1 / σ = −E[gε]. With the expectations taken at q′, and a
    factor η that is 1 in theory,

        μ = μ′ − η σ′² E[g],    σ = σ′ (√(1 + a²) − a),    a = σ′ E[gε] / 2.

    Args:
        mean: μ′, (P,).
        std: σ′, (P,), at least 0; where it is 0, μ and σ do not change.
        draws: Pairs of g and ε, each (P,), at least one. L, and so g, is a sum over samples: if it
            were a mean, the prior would weigh as much as a whole mini-batch.
        lr: η.

    Returns:
        μ and σ, each (P,).
    """
    gradients, products = torch.zeros_like(mean), torch.zeros_like(mean)
    n_draws = 0
    for gradient, noise in draws:
        gradients += gradient
        products.addcmul_(gradient, noise)
        n_draws += 1
    a = std * products / (2 * n_draws)
    # For a > 0, subtracting a from the root would lose digits; this form is equivalent.
    grown = torch.hypot(a, torch.ones_like(a)) + a.abs()
    factor = torch.where(a > 0, 1 / grown, grown)
    return mean - lr / n_draws * std**2 * gradients, std * factor


def gradient_at(
    weights: Tensor,
    layout: FlatLayout,
    model: nn.Module,
    criterion: Criterion,
    inputs: Sequence[Tensor],
    y: Tensor,
) -> Tensor:
    """Return the gradient of the loss, summed over samples, at other weights than the model's.

    Args:
        weights: The weights, (P,).
        layout: The model's parameters that the weights replace.
        model: Runs in its current mode; neither it nor its buffers change.
        criterion: Returns the mean loss over samples, given outputs and labels.
        inputs: The model's inputs: samples (B, ...), and its other inputs if any.
        y: Labels, (B,).

    Returns:
        The gradient, (P,).
    """
    parameters = [piece.requires_grad_() for piece in layout.pieces(weights.detach())]
    named = dict(zip(layout.names, parameters, strict=True))
    loss = len(y) * criterion(outputs_at(named, model, inputs), y)
    return layout.flatten(torch.autograd.grad(loss, parameters, allow_unused=True))
