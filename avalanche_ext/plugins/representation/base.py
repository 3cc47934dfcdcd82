"""Base class of losses on the model's representations of the mini-batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from avalanche_ext.data import Strategy
from avalanche_ext.plugins.core.composition import MethodPlugin
from avalanche_ext.plugins.core.gathering import (
    LOGITS,
    Gatherer,
    gathered_layers,
    in_float32,
    named_layers,
)
from avalanche_ext.plugins.core.model import (
    class_labels,
    hooked_model,
    is_multi_head,
    mask_values,
    own_model,
    task_labels,
    unmasked,
)
from avalanche_ext.traits import Phase

DefaultLayers = Literal["hidden and logits", "last hidden"]


class RepresentationLossPlugin(MethodPlugin):
    """Add λ times a loss on the model's representations of the whole mini-batch, replay included.

    A new loss is a subclass with a `representation_loss`. Forward hooks gather the representations
    only while the strategy computes the output of a training mini-batch, so other plugins may run
    the model. Representations of lower precision than float32, as from autocast, are converted to
    float32. A compiled model trains uncompiled beside this plugin. If the loss has parameters, the
    strategy's optimizer trains them with the model's, see `join_optimizer`.

    Compiled steps (`strategies.compiled`) contain the loss of a class that declares `reads_graph =
    False`. It promises that `loss_at` is a pure function of its arguments and of the plugin's
    numbers and texts: what it draws, and parameters that are trained, must be among
    `loss_tensors`. `loss_at` is `representation_loss` by default.

    Args:
        lam: Weight λ of the loss, at least 0; with 0 nothing is gathered.
        layers: Names of modules, as in `model.named_modules()`, whose outputs are used, and
            "logits" for the model's output; at least one. None is the DRL paper's choice: the input
            of each linear or multi-head layer, except inputs that do not depend on trained
            parameters, such as the data. On an MLP these are all hidden layers after their
            activations, on a ResNet the pooled features. `default_layers` determines which of them
            are used, and whether the logits are. Those of a multi-head model never are: its heads
            use the same units for different classes, so their logits cannot be compared.
        lr: Learning rate of the loss's own parameters; None takes the optimizer's.

    Attributes:
        computed: λ times the loss of this iteration, if compiled code has computed it and it has
            not been added yet.
        drawn: What `loss_tensors` returned in this iteration, if compiled code was to compute the
            loss but could not; the uncompiled loss takes these tensors instead of drawing again.

    Raises:
        ValueError: If `layers` is empty; when training starts, if the model lacks one of the
            layers, or if `lr` is given and the optimizer's rates follow a schedule.
    """

    phase = Phase.PENALTY
    reads_rows: ClassVar[bool] = True
    reads_graph: ClassVar[bool] = True
    default_layers: ClassVar[DefaultLayers] = "hidden and logits"
    """The layers used with `layers=None`: all hidden ones and, with a single head, the logits; or
    only the last hidden one that has run."""
    not_pickled: ClassVar[tuple[str, ...]] = ("_hooked", "computed", "drawn")

    def __init__(
        self, lam: float, layers: Sequence[str] | None = None, lr: float | None = None
    ) -> None:
        super().__init__()
        self.lam = lam
        self.layers = named_layers(layers)
        self.lr = lr
        self._hooked: dict[str, nn.Module] | None = None
        self.computed: Tensor | None = None
        self.drawn: Sequence[Tensor] | None = None
        self._mask_values: set[float] = set()
        self._multi_head = False
        self._gatherer = Gatherer()

    @abstractmethod
    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the scalar loss of representations, each (B, H_l), with labels (B,).

        For multi-head models the labels come from `class_labels`.
        """

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return the trained parameters of the loss; by default there are none."""
        return ()

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        """Return further arguments of `loss_at`; by default none."""
        return ()

    def loss_at(
        self, representations: Sequence[Tensor], labels: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return `representation_loss` as a pure function, given what `loss_tensors` returned."""
        return self.representation_loss(representations, labels)

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        gathered_layers(hooked_model(strategy), self.layers)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Look up the layers of the model, now adapted to the experience."""
        self._hooked = gathered_layers(hooked_model(strategy), self.layers)
        self._mask_values = mask_values(own_model(strategy))
        self._multi_head = is_multi_head(strategy)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Give the loss's parameters to the optimizer, after other plugins have reset theirs."""
        if self.lam:
            join_optimizer(strategy, self.loss_parameters(), self.lr)

    def before_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Attach the hooks, or hand the loss to a strategy that compiles its steps."""
        self.computed = self.drawn = None
        if self.lam == 0:
            return
        if hasattr(strategy, "offer_term"):
            strategy.offer_term(self)
        else:
            self._watch(strategy.model, self._hooked or {})

    def after_forward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Detach the hooks."""
        self.look_away()

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the loss."""
        if self.lam == 0:
            return
        computed, self.computed = self.computed, None
        if computed is None:
            t = task_labels(strategy)
            representations = self._representations(strategy.mb_output, t)
            labels = class_labels(strategy, strategy.mb_y, t)
            if self.drawn is None:
                loss = self.representation_loss(representations, labels)
            else:
                loss = self.loss_at(representations, labels, *self.drawn)
            computed = self.lam * loss
        strategy.loss += computed

    def watch(self, model: nn.Module) -> None:
        """Attach the hooks to the strategy's model, or to a copy of it."""
        self._watch(model, gathered_layers(model, self.layers))

    def _watch(self, model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
        self._gatherer.start(model, layers, "outputs" if self.layers else "inputs")

    def look_away(self) -> None:
        """Detach the hooks."""
        self._gatherer.stop()

    def loss_seen(self, outputs: Tensor, labels: Tensor, *tensors: Tensor) -> Tensor:
        """Return the loss of the representations behind a one-head model's `outputs`, (B, C)."""
        representations = self._representations(outputs, torch.zeros_like(labels))
        return self.loss_at(representations, labels, *tensors)

    def _representations(self, outputs: Tensor, task_labels: Tensor) -> list[Tensor]:
        gathered = [*self._gatherer.taken(outputs, task_labels).values()]
        logits = in_float32(unmasked(outputs, self._mask_values))
        if self.layers is not None:
            return [*gathered, logits] if LOGITS in self.layers else gathered
        hidden = [rows for rows in gathered if rows.requires_grad]
        takes_all = self.default_layers == "hidden and logits"
        if takes_all and not self._multi_head:
            return [*hidden, logits]
        if not hidden:
            raise ValueError(
                "layers=None takes hidden layers, but this model has none whose output is trained "
                f"and enters a linear layer: name a module, or {LOGITS!r}"
            )
        return hidden if takes_all else hidden[-1:]


def concatenated(representations: Sequence[Tensor]) -> Tensor:
    """Concatenate representations, each (B, H_l), to (B, Σ H_l)."""
    return torch.cat(list(representations), dim=1)


def summed(losses: Iterable[Tensor]) -> Tensor:
    """Return the sum of scalars, at least one."""
    return reduce(torch.add, losses)


def join_optimizer(
    strategy: Strategy, parameters: Iterable[nn.Parameter], lr: float | None
) -> None:
    """Add a loss's parameters to the strategy's optimizer, unless it already has them.

    Call it at the start of each epoch, after the strategy has adapted the optimizer to the model
    and other plugins have reset it. When the model grows, Avalanche keeps parameters that are not
    the model's, with their state, in the optimizer; they must be added again only if the optimizer
    is new or reset, or a strategy is set to remove them.

    With `lr=None` the parameters join the optimizer's first group, with its settings and its
    current learning rate, and a schedule still finds the groups it knows. With their own learning
    rate, which no schedule changes, they form a separate group with the optimizer's other defaults.

    Args:
        strategy: Avalanche's strategy; the parameters are moved to its device.
        parameters: The loss's parameters.
        lr: Their own learning rate; None takes the optimizer's.

    Raises:
        ValueError: If `lr` is given and the optimizer's rates follow a schedule.
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
            f"lr={lr}: the optimizer's learning rates follow a schedule, which cannot handle a new "
            "group of parameters; give lr=None to use the optimizer's rate"
        )
    else:
        strategy.optimizer.add_param_group({"params": joining, "lr": lr})
