"""Gather a model's representations of the mini-batch, and add a loss on them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_ext.plugins.composition import MethodPlugin, Phase

LOGITS = "logits"


class RepresentationLossPlugin(MethodPlugin):
    """Add `lam` times a loss on hidden representations of the whole mini-batch.

    Forward hooks gather the representations. They live only while the strategy computes the
    model's output of a training mini-batch, so that other plugins may run the model.

    Args:
        lam: Weight λ of the loss, at least 0; with 0 nothing is gathered.
        layers: Names of modules, as in `model.named_modules()`, whose outputs are used, and
            "logits" for the model's output; at least one. None is the DRL paper's choice: what
            enters each linear or multi-head layer, unless it does not depend on trained
            parameters, as the data themselves, and the logits. On an MLP this is every hidden
            layer after its activation, on a ResNet the pooled features.

    Raises:
        ValueError: If `layers` is empty; when training starts, if the model lacks one of them.
    """

    phase = Phase.PENALTY

    def __init__(self, lam: float, layers: Sequence[str] | None = None) -> None:
        super().__init__()
        if layers is not None and not layers:
            raise ValueError("layers=[] names no layer: name one, or give None for the default")
        self.lam = lam
        self.layers = layers
        self._hooked: list[nn.Module] = []
        self._gatherer = Gatherer()

    @abstractmethod
    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss of representations, each (B, H_l), with labels (B,)."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Find the layers in the model, as it is adapted to the experience."""
        modules = dict(strategy.model.named_modules())
        if self.layers is None:
            self._hooked = linear_layers(strategy.model)
            return
        names = [name for name in self.layers if name != LOGITS]
        for name in names:
            if name not in modules:
                raise ValueError(
                    f"layers={self.layers}: the model has no module {name!r}; "
                    f"it has {', '.join(filter(None, modules))}"
                )
        self._hooked = [modules[name] for name in names]

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Attach the hooks."""
        hooked = self._hooked if self.lam else []
        self._gatherer.start(hooked, "inputs" if self.layers is None else "outputs")

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Detach the hooks."""
        self._gatherer.stop()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the loss."""
        if self.lam == 0:
            return
        representations = self._gatherer.taken(strategy)
        if self.layers is None:
            representations = [rows for rows in representations if rows.requires_grad]
        if self.layers is None or LOGITS in self.layers:
            representations.append(strategy.mb_output)
        strategy.loss += self.lam * self.representation_loss(representations, strategy.mb_y)


class Gatherer:
    """Gathers what enters or leaves layers while a model runs on the mini-batch, by hooks."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._gathered: dict[nn.Module, list[Tensor]] = {}

    def start(self, layers: Sequence[nn.Module], of: Literal["inputs", "outputs"]) -> None:
        """Gather from now on."""
        self.stop()  # A forward pass that failed has left its hooks.
        self._gathered = {layer: [] for layer in layers}
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

    def taken(self, strategy: Any) -> list[Tensor]:
        """Return what was gathered of each layer that has run, (B, H_l), and forget it."""
        gathered, self._gathered = self._gathered, {}
        return [_in_batch_order(pieces, strategy) for pieces in gathered.values() if pieces]

    def _gather_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._gathered[module].append(inputs[0].flatten(1))

    def _gather_output(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._gathered[module].append(output.flatten(1))


def linear_layers(model: nn.Module) -> list[nn.Module]:
    """Return the linear layers of `model`, with a multi-head layer in place of its heads."""
    layers: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.Linear | MultiTaskModule):
            layers.append(child)
        else:
            layers += linear_layers(child)
    return layers


def _in_batch_order(pieces: Sequence[Tensor], strategy: Any) -> Tensor:
    """Return one (B, H) of what a layer has seen, for multi-head models one task after another."""
    if len(pieces) == 1:
        return pieces[0]
    by_task = torch.argsort(strategy.mb_task_id, stable=True)
    return torch.cat(list(pieces))[torch.argsort(by_task)]


def concatenated(representations: Sequence[Tensor]) -> Tensor:
    """Return representations, each (B, H_l), side by side, (B, Σ H_l)."""
    return torch.cat(list(representations), dim=1)
