"""Gather a model's representations of the mini-batch, and add a loss on them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from avalanche_ext.data import Strategy
from avalanche_ext.plugins.core.composition import MethodPlugin
from avalanche_ext.plugins.core.gathering import LOGITS, Gatherer, gathered_layers, named_layers
from avalanche_ext.plugins.core.model import class_labels, mask_values, unmasked
from avalanche_ext.traits import Phase

DefaultLayers = Literal["hidden and logits", "last hidden"]


class RepresentationLossPlugin(MethodPlugin):
    """Add `lam` times a loss on hidden representations of the whole mini-batch.

    Forward hooks gather the representations. They live only while the strategy computes the
    model's output of a training mini-batch, so that other plugins may run the model.

    A loss may have parameters of its own, which the strategy's optimizer trains with the model's:
    see `join_optimizer`.

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

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        gathered_layers(strategy.model, self.layers)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Find the layers in the model, as it is adapted to the experience."""
        self._hooked = gathered_layers(strategy.model, self.layers)
        self._mask_values = mask_values(strategy.model)
        if self.lam:
            join_optimizer(strategy, self.loss_parameters(), self.lr)

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Attach the hooks."""
        hooked = self._hooked if self.lam else []
        self._gatherer.start(hooked, "inputs" if self.layers is None else "outputs")

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Detach the hooks."""
        self._gatherer.stop()

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the loss."""
        if self.lam == 0:
            return
        representations = self._representations(strategy)
        labels = class_labels(strategy, strategy.mb_y, strategy.mb_task_id)
        strategy.loss += self.lam * self.representation_loss(representations, labels)

    def _representations(self, strategy: Strategy) -> list[Tensor]:
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


def concatenated(representations: Sequence[Tensor]) -> Tensor:
    """Return representations, each (B, H_l), side by side, (B, Σ H_l)."""
    return torch.cat(list(representations), dim=1)


def summed(losses: Iterable[Tensor]) -> Tensor:
    """Return the sum of scalars, at least one."""
    return reduce(torch.add, losses)


def join_optimizer(
    strategy: Strategy, parameters: Iterable[nn.Parameter], lr: float | None
) -> None:
    """Have the strategy's optimizer train these parameters, from now on and each but once.

    It is to be called at the start of each experience, when the strategy has made the optimizer fit
    the model. Avalanche leaves in the optimizer what is not the model's, along with its state, when
    the model grows; it is put back where a strategy makes its optimizer anew, or is told to remove
    what is not the model's.

    They join the optimizer's first group, so that they have its settings and learning rate of the
    moment, and that a schedule goes on to find the groups it knows. With a learning rate of their
    own, which no schedule changes, they make a group, with the optimizer's other defaults.

    Args:
        strategy: Avalanche's; parameters are moved to its device.
        parameters: Those of the loss.
        lr: Their own learning rate; None is the optimizer's.

    Raises:
        ValueError: If they shall have a learning rate of their own, and the optimizer's follow a
            schedule.
    """
    groups = strategy.optimizer.param_groups
    known = {id(p) for group in groups for p in group["params"]}
    joining = [p for p in parameters if id(p) not in known]
    for p in joining:
        p.data = p.data.to(strategy.device)
    if not joining:
        return
    if lr is None:
        groups[0]["params"].extend(joining)
    elif "initial_lr" in groups[0]:
        raise ValueError(
            f"lr={lr}: the optimizer's learning rates follow a schedule, which takes in no further "
            "group of parameters; give None, which is the optimizer's own"
        )
    else:
        strategy.optimizer.add_param_group({"params": joining, "lr": lr})
