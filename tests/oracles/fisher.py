"""Diagonals of Fisher information matrices, and MAS, one backward pass for each sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.oracles.arrays import Array


def diagonal_fisher_by_loops(
    model: nn.Module, x: Tensor, weights: Tensor, t: Tensor | None = None
) -> dict[str, Array]:
    """The mean over samples of sum_c weights[n, c] (d log p_c / d theta)^2.

    Kunstner, Balles, Hennig (2019), equations 3 and 4, with weights p_c or one for the label.
    """

    def terms(outputs: Tensor, n: int) -> list[tuple[Tensor, float]]:
        return [
            (log_p, float(weight))
            for log_p, weight in zip(outputs.log_softmax(0), weights[n], strict=True)
        ]

    return _mean_by_loops(model, x, t, terms, 2)


def reversed_fisher_by_loops(
    model: nn.Module, x: Tensor, y: Tensor, t: Tensor | None = None, unused: float | None = None
) -> dict[str, Array]:
    """Liu and Chang (2026): the mean of squared gradients of the cross-entropy of -f(x)."""

    def terms(outputs: Tensor, n: int) -> list[tuple[Tensor, float]]:
        known = [c for c in range(len(outputs)) if outputs[c].item() != unused]
        loss = torch.logsumexp(-outputs[known], 0) + outputs[int(y[n])]
        return [(loss, 1.0)]

    return _mean_by_loops(model, x, t, terms, 2)


def sensitivity_by_loops(model: nn.Module, x: Tensor, t: Tensor | None = None) -> dict[str, Array]:
    """Aljundi et al. (2018), equation 3: the mean over samples of |d ||f(x)||^2 / d theta|."""
    return _mean_by_loops(model, x, t, lambda outputs, _: [(outputs.square().sum(), 1.0)], 1)


def outputs_by_loops(model: nn.Module, x: Tensor, t: Tensor | None = None) -> Tensor:
    """(N, C): the outputs of one sample after another."""
    with torch.no_grad():
        alone = [model(*_one(x, t, n)) for n in range(len(x))]
    return torch.cat(alone)


def _mean_by_loops(
    model: nn.Module,
    x: Tensor,
    t: Tensor | None,
    terms: Callable[[Tensor, int], list[tuple[Tensor, float]]],
    power: int,
) -> dict[str, Array]:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in trained.items()}
    for n in range(len(x)):
        # Zeros, so that what runs through frozen layers alone has gradients too.
        zero = sum(0 * p.sum() for p in trained.values())
        for term, weight in terms(model(*_one(x, t, n))[0] + zero, n):
            gradients = torch.autograd.grad(term, [*trained.values()], retain_graph=True)
            for name, g in zip(trained, gradients, strict=True):
                total[name] += weight * g.to_dense().abs() ** power / len(x)
    return {name: value.numpy() for name, value in total.items()}


def _one(x: Tensor, t: Tensor | None, n: int) -> list[Tensor]:
    return [part[n : n + 1] for part in (x, t) if part is not None]
