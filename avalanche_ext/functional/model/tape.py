"""What layers are called with, and the gradients at what they put out, recorded as a model runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

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


@dataclass(frozen=True)
class Run:
    """What a layer was called with, without graph, and the zeros added to what it put out."""

    layer: nn.Module
    inputs: Tensor
    probe: Tensor


class LayerTape:
    """Records what some layers of a model are called with while the model runs.

    It adds zeros, the probes, to what the layers put out; the gradient of the loss at a probe is
    that at the layer's outputs, E, and asking autograd for it alone leaves the gradients of the
    parameters, most of a backward pass, undone.

    Args:
        layers: Modules that are called with one tensor and return one.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.layers = [*layers]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._runs: list[Run] = []

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

    def taken(self) -> list[Run]:
        """Return what was recorded, in the order in which it ran, and forget it."""
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
        probe = torch.zeros_like(output, requires_grad=True)
        self._runs.append(Run(layer, x.detach(), probe))
        return output + probe


class LinearTape(LayerTape):
    """Records the factors of the gradients of a model's linear layers while the model runs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(module for module in model.modules() if isinstance(module, nn.Linear))

    def covers(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Tell whether each of a model's trained parameters lies in one linear layer."""
        linear = [cast(nn.Linear, layer) for layer in self.layers]
        own = [p for layer in linear for p in (layer.weight, layer.bias) if p is not None]
        owned = sorted(id(p) for p in own if p.requires_grad)
        return owned == sorted(id(p) for p in parameters)

    def factors_of(self, loss: Tensor) -> list[LayerFactors]:
        """Return the factors of the gradient of a loss of what was recorded, and forget it."""
        runs = self.taken()
        probes = [run.probe for run in runs]
        return _factors(runs, torch.autograd.grad(loss, probes, allow_unused=True))

    def factors_after_backward(self) -> list[LayerFactors]:
        """Return the factors of what `backward` has added to the parameters' `grad`, as above."""
        runs = self.taken()
        return _factors(runs, [run.probe.grad for run in runs])


def _factors(runs: Sequence[Run], gradients: Sequence[Tensor | None]) -> list[LayerFactors]:
    return [
        LayerFactors(cast(nn.Linear, run.layer), _as_rows(run.inputs), _as_rows(gradient))
        for run, gradient in zip(runs, gradients, strict=True)
        if gradient is not None
    ]


def _as_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
