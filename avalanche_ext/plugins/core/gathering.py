"""Hidden representations, gathered by forward hooks while a model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

LOGITS = "logits"
"""The name, among those of layers, of the model's output."""


class Gatherer:
    """Gathers what enters or leaves layers while a model runs on the mini-batch, by hooks."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._gathered: dict[nn.Module, list[Tensor]] = {}

    def start(self, layers: Sequence[nn.Module], of: Literal["inputs", "outputs"]) -> None:
        """Gather from now on."""
        self.stop()  # A forward pass that failed has left its hooks.
        self._gathered = {}
        self._handles = [
            layer.register_forward_pre_hook(self._gather_input)
            if of == "inputs"
            else layer.register_forward_hook(self._gather_output)
            for layer in layers
        ]

    def stop(self) -> None:
        """Gather no more."""
        while self._handles:
            self._handles.pop().remove()

    def taken(self, task_labels: Tensor) -> list[Tensor]:
        """Return what was gathered of each layer that has run, (B, H_l), and forget it.

        They come in the order in which they have run.

        Args:
            task_labels: Those of the mini-batch, (B,).
        """
        return [*self.taken_by_layer(task_labels).values()]

    def taken_by_layer(self, task_labels: Tensor) -> dict[nn.Module, Tensor]:
        """Return the same by layer."""
        gathered, self._gathered = self._gathered, {}
        return {layer: _of_batch(pieces, task_labels) for layer, pieces in gathered.items()}

    def _gather_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._gathered.setdefault(module, []).append(inputs[0].flatten(1))

    def _gather_output(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._gathered.setdefault(module, []).append(output.flatten(1))


def named_layers(layers: Sequence[str] | None) -> Sequence[str] | None:
    """Return the names of layers, or None for the default ones.

    Raises:
        ValueError: If none is named.
    """
    if layers is not None and not layers:
        raise ValueError("layers=[] names no layer: name one, or give None for the default")
    return layers


def gathered_layers(model: nn.Module, layers: Sequence[str] | None) -> list[nn.Module]:
    """Return the modules of which `layers` names outputs, or if it is None those with inputs.

    Args:
        model: Which has them.
        layers: As for `RepresentationLossPlugin`.

    Raises:
        ValueError: If the model lacks one of them.
    """
    if layers is None:
        return linear_layers(model)
    modules = dict(model.named_modules())
    names = [name for name in layers if name != LOGITS]
    for name in names:
        if name not in modules:
            raise ValueError(
                f"layers={layers}: the model has no module {name!r}; "
                f"it has {', '.join(filter(None, modules))}"
            )
    return [modules[name] for name in names]


def linear_layers(model: nn.Module) -> list[nn.Module]:
    """Return the linear layers of `model`, with a multi-head layer in place of its heads."""
    layers: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.Linear | MultiTaskModule):
            layers.append(child)
        else:
            layers += linear_layers(child)
    return layers


def _of_batch(pieces: Sequence[Tensor], task_labels: Tensor) -> Tensor:
    """Return one (B, H) of what a layer has seen in several parts.

    Those are the samples of one task after another, for the heads of a multi-head model, or the
    whole batch each time, for a layer that runs more than once: they are put side by side.
    """
    if len(pieces) == 1:
        return pieces[0]
    if all(len(piece) == len(task_labels) for piece in pieces):
        return torch.cat(list(pieces), dim=1)
    by_task = torch.argsort(task_labels, stable=True)
    return torch.cat(list(pieces))[torch.argsort(by_task)]
