"""Running a model without side effects, also with parameters other than its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _NormBase

from avalanche_ext.functional.model.precision import full_precision
from avalanche_ext.functional.model.wrapped import uncompiled

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Given outputs (B, C) and labels (B,), returns a scalar loss."""

Rates = float | Mapping[Tensor, float]
"""Learning rates η: one for all, or one for each parameter; parameters without one do not move."""


def outputs_at(
    parameters: Mapping[str, Tensor], model: nn.Module, inputs: Sequence[Tensor]
) -> Tensor:
    """Return the model's outputs with some parameters replaced, computed on copies of its buffers.

    Outputs of lower precision than the parameters, as from autocast, are converted to their
    precision.

    Args:
        parameters: The new parameters, by name.
        model: Runs in the mode it is in, and does not change.
        inputs: The arguments of the model.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = {**parameters, **buffers}
    with uncompiled():
        outputs: Tensor = functional_call(model, state, tuple(inputs)) if state else model(*inputs)
    parameter = next(model.parameters(), outputs)
    return outputs.to(torch.promote_types(outputs.dtype, parameter.dtype))


def losses_by_sample(criterion: Criterion, outputs: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each sample, (B,), by a criterion for batches.

    Args:
        criterion: torch's `cross_entropy` and criteria with an attribute `reduction`, like torch's
            losses, are called once, without reduction; all others, and those that reduce their
            losses all the same, are called once for each sample.
        outputs: (B, C).
        y: Labels, (B,).
    """
    if criterion is cross_entropy:
        return cross_entropy(outputs, y, reduction="none")
    if hasattr(criterion, "reduction"):
        by_sample = copy(criterion)
        by_sample.reduction = "none"
        losses: Tensor = by_sample(outputs, y)
        if losses.dim() > 1:
            losses = losses.flatten(1)
            losses = losses.sum(1) if criterion.reduction == "sum" else losses.mean(1)
        if losses.shape == y.shape:
            return losses
    return torch.stack(
        [criterion(o[None], label[None]) for o, label in zip(outputs, y, strict=True)]
    )


def stepped(
    parameters: Mapping[str, Tensor], gradients: Sequence[Tensor | None], rates: Sequence[float]
) -> dict[str, Tensor]:
    """Return θ − η g of each parameter that has a gradient, by name; differentiable."""
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
    """Restore torch's global generators, which layers such as dropout draw from, afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of a model into eval mode, and restore its own mode afterwards.

    This sets the flags directly, since a module's own `train` may do more.
    """
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def left_as_it_was(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Run a model in eval mode with gradients enabled; restore modes and generators afterwards.

    It runs in the precision of its weights, and compiled parts run uncompiled.

    Args:
        model: The model.
        x: A tensor on the model's device.
    """
    with ExitStack() as stack:
        stack.enter_context(uncompiled())
        stack.enter_context(evaluating(model))
        stack.enter_context(full_precision(model))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            # cuDNN's recurrent layers have no backward pass in eval mode.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(generators_kept(x.device))
        stack.enter_context(torch.enable_grad())
        yield


def is_samplewise(model: nn.Module) -> bool:
    """Return whether a sample's output is independent of the rest of the batch.

    Only modules are checked: a normalisation layer with batch statistics makes the answer no. A
    `forward` that mixes samples by itself is not detected.
    """
    return not any(isinstance(module, _NormBase) for module in model.modules())
