"""Hidden representations, gathered by forward hooks while a model runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

LOGITS = "logits"
"""The name that stands for the model's output in a list of layers."""


class Gatherer:
    """Gathers inputs or outputs of layers by forward hooks while a model runs."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._gathered: dict[nn.Module, list[Tensor]] = {}

    def start(self, layers: Sequence[nn.Module], of: Literal["inputs", "outputs"]) -> None:
        """Start to gather the inputs or outputs of these layers."""
        self.stop()  # A failed forward pass leaves its hooks behind.
        self._gathered = {}
        self._handles = [
            layer.register_forward_pre_hook(self._gather_input)
            if of == "inputs"
            else layer.register_forward_hook(self._gather_output)
            for layer in layers
        ]

    def stop(self) -> None:
        """Stop gathering, and remove the hooks."""
        while self._handles:
            self._handles.pop().remove()

    def taken(self, task_labels: Tensor) -> list[Tensor]:
        """Return what was gathered for each layer that has run, (B, H_l), and forget it.

        Layers are in the order in which they ran.

        Args:
            task_labels: The mini-batch's task labels, (B,).
        """
        return [*self.taken_by_layer(task_labels).values()]

    def taken_by_layer(self, task_labels: Tensor) -> dict[nn.Module, Tensor]:
        """Return what `taken` returns, by layer."""
        gathered, self._gathered = self._gathered, {}
        return {layer: _of_batch(pieces, task_labels) for layer, pieces in gathered.items()}

    def _gather_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._gathered.setdefault(module, []).append(inputs[0].flatten(1))

    def _gather_output(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._gathered.setdefault(module, []).append(output.flatten(1))


def named_layers(layers: Sequence[str] | None) -> Sequence[str] | None:
    """Return `layers`, names of layers or None for the default ones.

    Raises:
        ValueError: If `layers` is empty.
    """
    if layers is not None and not layers:
        raise ValueError("layers=[] names no layer: name one, or give None for the default")
    return layers


def gathered_layers(model: nn.Module, layers: Sequence[str] | None) -> list[nn.Module]:
    """Return the named modules, or with `layers=None` the linear ones.

    Args:
        model: The model that contains them.
        layers: As for `RepresentationLossPlugin`; "logits" names no module and is skipped.

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
    """Join what a layer saw in several calls to one (B, H).

    The heads of a multi-head model see the samples of one task after another; these are put back in
    the batch's order. A layer that runs more than once sees the whole batch each time; these pieces
    are put side by side.
    """
    if len(pieces) == 1:
        return pieces[0]
    if all(len(piece) == len(task_labels) for piece in pieces):
        return torch.cat(list(pieces), dim=1)
    by_task = torch.argsort(task_labels, stable=True)
    return torch.cat(list(pieces))[torch.argsort(by_task)]
