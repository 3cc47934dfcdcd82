"""Gather a model's representations of the mini-batch, and add a loss on them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from avalanche.models import MultiTaskModule
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avalanche_ext.plugins.core.composition import MethodPlugin, Phase
from avalanche_ext.plugins.core.heads import class_labels, mask_values, unmasked
from avalanche_ext.plugins.representation.loss_parameters import join_optimizer

LOGITS = "logits"
DefaultLayers = Literal["hidden and logits", "last hidden"]


class RepresentationLossPlugin(MethodPlugin):
    """Add `lam` times a loss on hidden representations of the whole mini-batch.

    Forward hooks gather the representations. They live only while the strategy computes the
    model's output of a training mini-batch, so that other plugins may run the model.

    A loss may have parameters of its own, which the strategy's optimizer trains with the model's:
    see `loss_parameters.join_optimizer`.

    Args:
        lam: Weight λ of the loss, at least 0; with 0 nothing is gathered.
        layers: Names of modules, as in `model.named_modules()`, whose outputs are used, and
            "logits" for the model's output; at least one. None is the DRL paper's choice. Hidden
            layers are then what enters each linear or multi-head layer, unless it does not depend
            on trained parameters, as the data themselves: on an MLP every hidden layer after its
            activation, on a ResNet the pooled features. The class says which of them are used.
        lr: Learning rate of the loss's own parameters; None is the optimizer's.

    Raises:
        ValueError: If `layers` is empty; when training starts, if the model lacks one of them, or
            if the optimizer cannot have a further learning rate.
    """

    phase = Phase.PENALTY
    default_layers: ClassVar[DefaultLayers] = "hidden and logits"
    """What is used without `layers`: all hidden layers and the logits, or of those that have run
    the last hidden one alone."""

    def __init__(
        self, lam: float, layers: Sequence[str] | None = None, lr: float | None = None
    ) -> None:
        super().__init__()
        self.lam = lam
        self.layers = named_layers(layers)
        self.lr = lr
        self._hooked: list[nn.Module] = []
        self._mask_values: set[float] = set()
        self._gatherer = Gatherer()

    def __getstate__(self) -> dict[str, Any]:
        # They belong to the model, and are found anew with the next experience.
        return {**self.__dict__, "_hooked": []}

    @abstractmethod
    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss of representations, each (B, H_l), with labels (B,).

        Of multi-head models labels are those of `class_labels`.
        """

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the loss that are trained; there are none unless it says so."""
        return ()

    def check(self, strategy: Any) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        gathered_layers(strategy.model, self.layers)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Find the layers in the model, as it is adapted to the experience."""
        self._hooked = gathered_layers(strategy.model, self.layers)
        self._mask_values = mask_values(strategy.model)
        if self.lam:
            join_optimizer(strategy, self.loss_parameters(), self.lr)

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
        representations = self._representations(strategy)
        labels = class_labels(strategy, strategy.mb_y, strategy.mb_task_id)
        strategy.loss += self.lam * self.representation_loss(representations, labels)

    def _representations(self, strategy: Any) -> list[Tensor]:
        gathered = self._gatherer.taken(strategy.mb_task_id)
        logits = unmasked(strategy.mb_output, self._mask_values)
        if self.layers is not None:
            return [*gathered, logits] if LOGITS in self.layers else gathered
        hidden = [rows for rows in gathered if rows.requires_grad]
        if self.default_layers == "hidden and logits":
            return [*hidden, logits]
        if not hidden:
            raise ValueError(
                "layers=None is the last hidden layer, but nothing that enters a linear layer of "
                f"this model is trained: name a module, or {LOGITS!r}"
            )
        return hidden[-1:]


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


def concatenated(representations: Sequence[Tensor]) -> Tensor:
    """Return representations, each (B, H_l), side by side, (B, Σ H_l)."""
    return torch.cat(list(representations), dim=1)


def summed(losses: Iterable[Tensor]) -> Tensor:
    """Return the sum of scalars, at least one."""
    return reduce(torch.add, losses)
