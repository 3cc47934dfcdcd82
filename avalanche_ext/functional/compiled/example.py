"""What a model computes without compilation, to compare compiled code with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avalanche_ext.functional.compiled.kinds import is_setting
from avalanche_ext.functional.compiled.terms import (
    NotCompilableError,
    Term,
    first_line,
    trained_of,
    watching,
)
from avalanche_ext.functional.model.running import generators_kept

_TOLERANCE = 1e-4
"""By how much a compiled gradient may differ from the one that torch computes step by step, as a
part of the latter's largest entry. Sums in another order differ by less."""

_ROUNDING = 1e-6
"""By how much they may differ where sums of numbers of size 1 cancel."""


class Expected(NamedTuple):
    """What a model computes for an example without compilation.

    Attributes:
        of_model: The gradients of its parameters, by name, where the loss depends on them.
        of_terms: The gradients of those of `tensors` that are trained.
        others: The criterion, the outputs, and λ times the loss of each term.
        tensors: The other inputs of each term.
    """

    of_model: dict[str, Tensor]
    of_terms: list[Tensor]
    others: list[Tensor]
    tensors: list[list[Tensor]]

    def is_close_to(self, results: Sequence[Tensor]) -> bool:
        """Return whether compiled code has computed the same, up to sums in another order."""
        return all(
            map(_are_close, results, [*self.of_model.values(), *self.of_terms, *self.others])
        )


@torch.enable_grad()
def step_by_step(
    model: nn.Module, criterion: nn.Module, terms: Sequence[Term], x: Tensor, y: Tensor
) -> Expected:
    """Return what copies of the model and the terms compute.

    Args:
        model: Called with samples alone.
        criterion: Returns a scalar, given outputs and labels.
        terms: What is added to the criterion.
        x: Samples, (B, ...).
        y: Labels, (B,).

    Raises:
        NotCompilableError: If the forward pass or a term draws random numbers or changes a
            part, if the criterion has parameters that are trained, or if a term trains
            parameters that are not among its tensors.
    """
    if any(p.requires_grad for p in criterion.parameters()):
        raise NotCompilableError("the criterion has parameters that are trained")
    originals: tuple[object, ...] = (model, criterion, *terms)
    try:
        model, criterion, terms = deepcopy((model, criterion, terms))
    except Exception as error:
        raise NotCompilableError(f"it cannot be copied: {first_line(error)}") from error
    with generators_kept(x.device), watching(terms, model):
        tensors = [[*term.loss_tensors(y)] for term in terms]
        states = _generator_states(x.device)
        outputs: Tensor = model(x)
        loss = criterion(outputs, y)
        of_terms = [
            term.lam * term.loss_seen(outputs, y, *given)
            for term, given in zip(terms, tensors, strict=True)
        ]
        draws = not all(map(torch.equal, states, _generator_states(x.device)))
    if draws:
        raise NotCompilableError("it draws random numbers, as dropout does")
    pairs = zip(originals, (model, criterion, *terms), strict=True)
    changed = next((each for pair in pairs for each in _changes(*pair)), None)
    if changed:
        raise NotCompilableError(f"its forward pass changes {changed}")
    gradients = _gradients(sum(of_terms, loss), model, terms, tensors)
    return Expected(*gradients, [each.detach() for each in (loss, outputs, *of_terms)], tensors)


def _gradients(
    loss: Tensor, model: nn.Module, terms: Sequence[Term], tensors: Sequence[Sequence[Tensor]]
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the gradients of a model's parameters, by name, and of its terms' parameters."""
    if not loss.requires_grad:
        raise NotCompilableError("the loss depends on no parameter that is trained")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    trained = trained_of(tensors)
    known = {*map(id, trained)}
    if any(id(p) not in known for term in terms for p in term.loss_parameters()):
        raise NotCompilableError("parameters of a term are not among its loss_tensors")
    found = torch.autograd.grad(loss, [*parameters.values(), *trained], allow_unused=True)
    of_model = {n: g for n, g in zip(parameters, found, strict=False) if g is not None}
    of_terms = [g for g in found[len(parameters) :] if g is not None]
    if len(of_terms) < len(trained):
        raise NotCompilableError("the loss does not depend on all trained parameters of its terms")
    return of_model, of_terms


def _are_close(one: Tensor, other: Tensor) -> bool:
    one, other = one.detach(), other.detach()
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    largest = float(other.abs().amax()) if other.numel() else 0.0
    atol = _TOLERANCE * largest + _ROUNDING
    return torch.allclose(one, other, rtol=0.0, atol=atol, equal_nan=True)


def _changes(before: object, after: object) -> Iterator[str]:
    """Yield what differs between a module or a term and its copy."""
    pairs = [("", before, after)]
    if isinstance(before, nn.Module) and isinstance(after, nn.Module):
        for (name, one), other in zip(before.named_buffers(), after.buffers(), strict=True):
            if not torch.equal(one, other):
                yield f"its buffer {name!r}, as batch normalisation does"
        named = zip(before.named_modules(), after.modules(), strict=True)
        pairs = [(name + "." if name else "", left, right) for (name, left), right in named]
    for prefix, left, right in pairs:
        for key, value in vars(left).items():
            if is_setting(value) and vars(right).get(key) != value:
                yield f"its attribute '{prefix}{key}'"


def _generator_states(device: torch.device) -> list[Tensor]:
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]
