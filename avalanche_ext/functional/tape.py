"""The factors of the gradients of linear layers, recorded while a model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerFactors:
    """What the gradients of one linear layer are made of.

    Attributes:
        layer: The layer, with its weight W (H, F) and perhaps a bias (H,).
        inputs: X, (N, F).
        output_gradients: E, (N, H), so that the gradient of W is EᵀX and that of the bias Eᵀ1.
    """

    layer: nn.Linear
    inputs: Tensor
    output_gradients: Tensor

    def of_parameters(self) -> Iterator[tuple[Tensor, bool]]:
        """Return the layer's trained parameters, and whether each is the weight."""
        for parameter, is_weight in ((self.layer.weight, True), (self.layer.bias, False)):
            if parameter is not None and parameter.requires_grad:
                yield parameter, is_weight


class LinearTape:
    """Records the factors of the gradients of a model's linear layers while the model runs.

    It adds zeros, the probes, to what the layers put out; the gradient of the loss at a probe is E,
    and asking autograd for it alone leaves the product EᵀX, most of a backward pass, undone.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._runs: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def covers(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Tell whether each of a model's trained parameters lies in one linear layer."""
        own = [p for layer in self.layers for p in (layer.weight, layer.bias) if p is not None]
        owned = sorted(id(p) for p in own if p.requires_grad)
        return owned == sorted(id(p) for p in parameters)

    def start(self) -> None:
        """Record from now on, and forget what was recorded before."""
        self.stop()
        self._runs = []
        self._handles = [
            layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.layers
        ]

    def stop(self) -> None:
        """Record no more."""
        while self._handles:
            self._handles.pop().remove()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _record(
        self,
        layer: nn.Linear,
        positional: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        (x,) = (*positional, *named.values())
        probe = torch.zeros_like(output, requires_grad=True)
        self._runs.append((layer, x.detach(), probe))
        return output + probe

    def factors_of(self, loss: Tensor) -> list[LayerFactors]:
        """Return the factors of the gradient of a loss of what was recorded, and forget it."""
        probes = [probe for _, _, probe in self._runs]
        return self._factors(torch.autograd.grad(loss, probes, allow_unused=True))

    def factors_after_backward(self) -> list[LayerFactors]:
        """Return the factors of what `backward` has added to the parameters' `grad`, as above."""
        return self._factors([probe.grad for _, _, probe in self._runs])

    def _factors(self, gradients: Sequence[Tensor | None]) -> list[LayerFactors]:
        runs, self._runs = self._runs, []
        return [
            LayerFactors(layer, _as_rows(x), _as_rows(gradient))
            for (layer, x, _), gradient in zip(runs, gradients, strict=True)
            if gradient is not None
        ]


def _as_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
