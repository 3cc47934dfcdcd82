"""The gradients of a layer's parameters for each of many samples, as products of two factors.

A layer that sees the inputs a_n, and whose outputs have the gradients e_n, has the gradient
e_n a_nᵀ for sample n. Sums over samples of its squares, inner products of samples and weighted sums
of samples follow from the factors, so that gradients of single samples need not be held
(Goodfellow 2015, "Efficient per-example gradient computations", arXiv:1510.01799).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class SampleGradients(ABC):
    """The gradients of the trained parameters of one layer, one for each of M rows.

    There are R rows for each of N samples, M = R · N; that of sample n and number r is at r·N + n.
    Nothing is divided by N or R.

    Attributes:
        parameters: The layer's trained parameters.
    """

    parameters: list[nn.Parameter]

    @abstractmethod
    def summed_powers(self, power: int) -> list[Tensor]:
        """Return Σ_m |g_m|^power of each parameter, in its shape; the power is 1 or 2."""

    @abstractmethod
    def kernel(self) -> Tensor:
        """Return the inner products of the rows, (M, M), summed over the parameters."""

    @abstractmethod
    def lift(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_m w_km g_m, (k, *shape), of each parameter for weights (k, M)."""


class Outer(SampleGradients):
    """The gradients of a linear layer that sees one vector of each sample.

    Args:
        layer: With a weight (H, F) and perhaps a bias (H,).
        inputs: a, (N, F).
        output_gradients: e, (R, N, H).
    """

    def __init__(self, layer: nn.Linear, inputs: Tensor, output_gradients: Tensor) -> None:
        self.has_weight, self.has_bias = (is_trained(p) for p in (layer.weight, layer.bias))
        self.parameters = trained(layer)
        self.inputs = inputs
        self.output_gradients = output_gradients

    def summed_powers(self, power: int) -> list[Tensor]:
        """Return (Σ_r |e|^power)ᵀ |a|^power, and its like for the bias, where a is 1."""
        # One row after another is faster than all at once, which is more than a cache holds.
        first, *others = self.output_gradients
        by_sample = powers(first, power)
        for e in others:
            by_sample = by_sample.addcmul_(e, e) if power == 2 else by_sample.add_(e.abs())
        return self._of_parameters(by_sample.T @ powers(self.inputs, power), by_sample.sum(0))

    def kernel(self) -> Tensor:
        """Return (E Eᵀ) ∘ (A Aᵀ + 1), in which A Aᵀ is the weight's part and 1 the bias's."""
        e, n_rows = self.output_gradients.flatten(0, 1), len(self.output_gradients)
        kernel = e @ e.T
        if self.has_weight:
            of_inputs = self.inputs @ self.inputs.T + float(self.has_bias)
            tiled = kernel.view(n_rows, len(of_inputs), n_rows, len(of_inputs))
            tiled *= of_inputs[None, :, None]
        return kernel

    def lift(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_n (Σ_r w_krn e_rn) a_nᵀ for each k."""
        by_row = weights.view(len(weights), *self.output_gradients.shape[:2])
        # A product over r alone, for all k and n at once, would need another layout of e.
        by_sample = torch.stack([(w[..., None] * self.output_gradients).sum(0) for w in by_row])
        return self._of_parameters(by_sample.mT @ self.inputs, by_sample.sum(1))

    def _of_parameters(self, of_weight: Tensor, of_bias: Tensor) -> list[Tensor]:
        pairs = ((self.has_weight, of_weight), (self.has_bias, of_bias))
        return [value for has, value in pairs if has]


def is_trained(parameter: Tensor | None) -> bool:
    """Tell whether there is such a parameter and it needs a gradient."""
    return parameter is not None and parameter.requires_grad


def trained(layer: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters that a layer itself owns."""
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def powers(x: Tensor, power: int) -> Tensor:
    """Return |x|^power for a power of 1 or 2."""
    return x.square() if power == 2 else x.abs()
