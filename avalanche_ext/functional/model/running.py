"""Running a model with other parameters than its own, and leaving no trace of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

Rates = float | Mapping[Tensor, float]
"""Learning rates η: one, or one for each parameter; those without one stay where they are."""


def outputs_at(
    parameters: Mapping[str, Tensor], model: nn.Module, inputs: Sequence[Tensor]
) -> Tensor:
    """Return the model's outputs with some parameters replaced, computed on copies of its buffers.

    Args:
        parameters: Those to be replaced, by their names.
        model: Left as it is; it runs in the mode it is in.
        inputs: What it is called with.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = {**parameters, **buffers}
    outputs: Tensor = functional_call(model, state, tuple(inputs)) if state else model(*inputs)
    return outputs


def stepped(
    parameters: Mapping[str, Tensor], gradients: Sequence[Tensor | None], rates: Sequence[float]
) -> dict[str, Tensor]:
    """Return θ − η g of those parameters that have a gradient, by their names; differentiable."""
    triples = zip(parameters.items(), gradients, rates, strict=True)
    return {
        name: torch.sub(p, gradient, alpha=rate)
        for (name, p), gradient, rate in triples
        if gradient is not None
    }


def rate_of(parameter: Tensor, rates: Rates) -> float:
    """Return the learning rate of a parameter."""
    return rates.get(parameter, 0.0) if isinstance(rates, Mapping) else rates


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put torch's global generators back afterwards, from which layers such as dropout draw."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Have every module of a model in eval mode inside, and put back the mode of each afterwards.

    The flags are set as such, since a module's own `train` may do more than that.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
