"""Inputs of layers while a model runs, and the gradients of linear layers as two factors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Run:
    """One run of a layer.

    Attributes:
        layer: The layer.
        inputs: Its input, without graph; floats have the precision of its parameters.
        probe: The zeros added to its outputs, in the same precision. The gradient of a loss with
            respect to them equals that with respect to the outputs.
        precision: The type of its outputs, lower than that of its parameters under autocast.
    """

    layer: nn.Module
    inputs: Tensor
    probe: Tensor
    precision: torch.dtype


class LayerTape:
    """Records the inputs of some layers of a model while the model runs.

    It adds zeros, the probes, to the layers' outputs. Asking autograd only for the gradients of the
    probes skips the gradients of the parameters, which are most of the work of a backward pass.

    Args:
        layers: Modules with parameters that take one tensor and return one.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.layers = [*layers]
        self._runs: list[Run] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the runs inside this context, and forget earlier ones."""
        self._runs = []
        handles = [
            layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def taken(self) -> list[Run]:
        """Return the recorded runs in order, and forget them."""
        runs, self._runs = self._runs, []
        return runs

    def _record(
        self,
        layer: nn.Module,
        positional: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        (x,) = (*positional, *named.values())
        dtype = next(layer.parameters()).dtype
        inputs = x.detach().to(dtype) if x.is_floating_point() else x
        probe = torch.zeros_like(output, dtype=dtype, requires_grad=True)
        self._runs.append(Run(layer, inputs, probe, output.dtype))
        return output + probe.to(output.dtype)


class LinearGradients:
    """The gradients of a linear layer's parameters, one for each of M rows, kept as two factors.

    With the inputs x_n of N samples and R gradients e_rn at the outputs of each, row m = r·N + n is
    e_rn x_nᵀ for the weight, (H, F), and e_rn for the bias, (H,). Sums of rows or of their powers,
    and inner products of rows, follow from the factors, so no row is formed (Goodfellow 2015,
    "Efficient per-example gradient computations", arXiv:1510.01799).

    Args:
        layer: With a weight (H, F) and perhaps a bias (H,).
        inputs: X, (N, F).
        output_gradients: E, (R, N, H).

    Attributes:
        parameters: The layer's trained parameters.
    """

    def __init__(self, layer: nn.Linear, inputs: Tensor, output_gradients: Tensor) -> None:
        self.layer = layer
        self.has_weight, self.has_bias = (is_trained(p) for p in (layer.weight, layer.bias))
        self.parameters = trained(layer)
        self.inputs = inputs
        self.output_gradients = output_gradients

    def summed_powers(self, power: int) -> list[Tensor]:
        """Return Σ_m |g_m|^power of each parameter: (Σ_r |e|^power)ᵀ |x|^power for the weight."""
        # Row by row is faster: all rows at once exceed the cache.
        first, *others = self.output_gradients
        by_sample = powers(first, power)
        for e in others:
            by_sample = by_sample.addcmul_(e, e) if power == 2 else by_sample.add_(e.abs())
        return self._of_parameters(by_sample.T @ powers(self.inputs, power), by_sample.sum(0))

    def lift(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_m w_km g_m, (k, *shape), of each parameter for weights (k, M)."""
        by_row = weights.view(len(weights), *self.output_gradients.shape[:2])
        # A single product over r for all k and n would need a different layout of e.
        by_sample = torch.stack([(w[..., None] * self.output_gradients).sum(0) for w in by_row])
        return self._of_parameters(by_sample.mT @ self.inputs, by_sample.sum(1))

    def kernel(self) -> Tensor:
        """Return the inner products of the rows, (M, M), summed over the parameters."""
        return self.products(self, self.inputs.dtype)

    def products(self, others: LinearGradients, dtype: torch.dtype) -> Tensor:
        """Return the inner products with rows of the same layer, (M, M′), in the given precision.

        They are (E E′ᵀ) ∘ (X X′ᵀ + 1): X X′ᵀ is the weight's part and 1 the bias's.
        """
        e, f = (g.output_gradients.flatten(0, 1).to(dtype) for g in (self, others))
        products = e @ f.T
        if self.has_weight:
            of_inputs = self.inputs @ others.inputs.T + float(self.has_bias)
            n, m = of_inputs.shape
            tiled = products.view(len(e) // n, n, len(f) // m, m)
            tiled *= of_inputs[None, :, None]
        return products

    def _of_parameters(self, of_weight: Tensor, of_bias: Tensor) -> list[Tensor]:
        pairs = ((self.has_weight, of_weight), (self.has_bias, of_bias))
        return [value for has, value in pairs if has]


class LinearTape(LayerTape):
    """Records the factors of the gradients of a model's linear layers while the model runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(module for module in model.modules() if isinstance(module, nn.Linear))

    def covers(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Return whether each of a model's trained parameters lies in exactly one linear layer."""
        linear = [cast(nn.Linear, layer) for layer in self.layers]
        own = [p for layer in linear for p in (layer.weight, layer.bias) if is_trained(p)]
        return sorted(map(id, own)) == sorted(map(id, parameters))

    def gradients_of(self, loss: Tensor) -> list[LinearGradients]:
        """Return the gradients of a loss for each recorded run, and forget the record.

        Runs that the loss does not depend on are left out. If a layer saw several positions of each
        sample, each position is a row.
        """
        runs = self.taken()
        found = torch.autograd.grad(loss, [run.probe for run in runs], allow_unused=True)
        return [
            LinearGradients(cast(nn.Linear, run.layer), _rows(run.inputs), _rows(e)[None])
            for run, e in zip(runs, found, strict=True)
            if e is not None
        ]


def is_trained(parameter: Tensor | None) -> bool:
    """Return whether the parameter exists and needs a gradient."""
    return parameter is not None and parameter.requires_grad


def trained(layer: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters that belong to the layer itself."""
    return [p for p in layer.parameters(recurse=False) if p.requires_grad]


def powers(x: Tensor, power: int) -> Tensor:
    """Return |x|^power for a power of 1 or 2."""
    return x.square() if power == 2 else x.abs()


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
