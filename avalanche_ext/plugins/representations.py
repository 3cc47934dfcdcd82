"""Gather a model's representations of the mini-batch, and add a loss on them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
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
            "logits" for the model's output. None is the DRL paper's choice: what enters each
            linear layer, except the data themselves, and the logits. On an MLP this is every
            hidden layer after its activation, on a ResNet the pooled features.

    Raises:
        ValueError: When training starts, if the model has no module of one of these names.
    """

    phase: ClassVar[Phase] = Phase.PENALTY

    def __init__(self, lam: float, layers: Sequence[str] | None = None) -> None:
        super().__init__()
        self.lam = lam
        self.layers = layers
        self._hooked: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []
        self._gathered: list[Tensor] = []

    @abstractmethod
    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss of representations, each (B, H_l), with labels (B,)."""

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Find the layers in the model, as it is adapted to the experience."""
        modules = dict(strategy.model.named_modules())
        if self.layers is None:
            self._hooked = [m for m in modules.values() if isinstance(m, nn.Linear)]
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
        self._gathered.clear()
        if self.lam == 0:
            return
        for module in self._hooked:
            self._handles.append(
                module.register_forward_pre_hook(self._gather_input)
                if self.layers is None
                else module.register_forward_hook(self._gather_output)
            )

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Detach the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Add the loss."""
        if self.lam == 0:
            return
        if self.layers is None or LOGITS in self.layers:
            self._gathered.append(strategy.mb_output)
        strategy.loss += self.lam * self.representation_loss(self._gathered, strategy.mb_y)
        self._gathered.clear()

    def _gather_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            self._gathered.append(inputs[0].flatten(1))

    def _gather_output(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._gathered.append(output.flatten(1))


def concatenated(representations: Sequence[Tensor]) -> Tensor:
    """Return representations, each (B, H_l), side by side, (B, Σ H_l)."""
    return torch.cat(list(representations), dim=1)
