"""A model's outputs after one SGD step on some samples, without taking the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.precision import full_precision
from avalanche_ext.functional.model.running import (
    Criterion,
    Rates,
    generators_kept,
    losses_by_sample,
    outputs_at,
    rate_of,
    stepped,
)

NowAndAhead = Callable[..., tuple[Tensor, Tensor]]
"""Returns a model's outputs at θ and at θ′, each (B, C), for the inputs it is called with."""


def step_ahead(
    model: nn.Module, criterion: Criterion, inputs: Sequence[Tensor], y: Tensor, lr: Rates
) -> NowAndAhead:
    """Return a function that gives a model's outputs at θ and after a step, at θ′ = θ − η ∇L.

    The model runs in its current mode. Neither the model, its buffers nor any optimizer changes.
    The gradient has the precision in which the model trains; the compared outputs have the
    precision of its weights.

    Args:
        model: Called with inputs, returns outputs (B, C).
        criterion: L, returns a scalar, given outputs and labels.
        inputs: The model's inputs in that step: samples (N, ...), and its other inputs if any.
        y: Labels, (N,).
        lr: η.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = criterion(outputs_at({}, model, inputs), y)
    gradients = torch.autograd.grad(loss, [*trained.values()], allow_unused=True)
    rates = [rate_of(p, lr) for p in trained.values()]
    ahead = stepped({name: p.detach() for name, p in trained.items()}, gradients, rates)

    def both(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        # Both passes draw the same dropout masks; otherwise noise would hide the step's effect.
        with full_precision(model):
            with generators_kept(inputs[0].device):
                now = outputs_at({}, model, inputs)
            return now, outputs_at(ahead, model, inputs)

    return both


def interference(
    outputs: NowAndAhead, inputs: Sequence[Tensor], y: Tensor, criterion: Criterion
) -> Tensor:
    """Return how much a step increases the loss of each sample (Aljundi et al. 2019, MIR).

    Args:
        outputs: Returns the model's outputs at θ and at θ′; see `step_ahead`.
        inputs: The model's inputs.
        y: Labels, (B,).
        criterion: Gives ℓ of each sample; see `losses_by_sample`.

    Returns:
        ℓ(x; θ′) − ℓ(x; θ) of each sample, (B,).
    """
    now, ahead = outputs(*inputs)
    return losses_by_sample(criterion, ahead, y) - losses_by_sample(criterion, now, y)
