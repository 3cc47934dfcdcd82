"""R-margin as an auxiliary loss on representations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from pydantic import FiniteFloat, NonNegativeFloat
from torch import Tensor, nn

from avalanche_ext.functional import margin_loss
from avalanche_ext.functional.representation.losses import Switch
from avalanche_ext.plugins.representation.base import (
    DefaultLayers,
    RepresentationLossPlugin,
    summed,
)
from avalanche_ext.traits import by
from avalanche_ext.validation import validated


class RMarginPlugin(RepresentationLossPlugin):
    """R-margin: add λ times the margin loss with randomly switched pairs to the criterion.

    The loss of Roth et al. (2020, "Revisiting training strategies and generalization performance in
    deep metric learning"), in the setting in which the DRL paper (Chen, Diethe and Flach 2020)
    compares with it: together with `BalancedReplayPlugin`, from the first task on. See
    `functional.margin_loss`.

    Deviations from Roth et al., as in the DRL paper's code:

    1. Distances are squared, and the loss is a sum over all pairs of the mini-batch, not over
       sampled ones.
    2. There is no hinge unless `hinge` is set. Without the hinge, the trained boundary β does not
       affect the model.
    3. Mini-batches of the same size share one mask of switched pairs, by position; `redraw` draws a
       mask in each iteration.
    4. Switched pairs are left out; `switch="repel"` pushes them apart, as Roth et al. do.

    Args:
        lam: Weight λ of the loss; in the DRL paper 2e-5 on Permuted MNIST, 1e-3 on Split MNIST and
            Fashion-MNIST, 1e-4 and 2e-4 on Split CIFAR-10 and CIFAR-100, for mini-batches of 20
            (MNIST) and 10 (CIFAR). The loss grows with the square of their size.
        boundary: Initial value of β.
        margin: γ.
        p_switch: Probability that an ordered pair is switched.
        switch: "omit" or "repel", see `functional.margin_loss`.
        redraw: Whether to draw the switched pairs in each iteration.
        hinge: Whether each pair contributes at least 0.
        layers: Modules whose outputs are used, and "logits"; the loss is summed over them. None
            takes the last hidden layer alone, on a ResNet the pooled features.
        lr: Learning rate of β; None takes the optimizer's.
        seed: Seed of the masks.

    Attributes:
        boundary: β, a scalar parameter.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if the model lacks one of the layers, or has no hidden
            layer although `layers` is None; or if `lr` is given and the optimizer's rates follow a
            schedule.
    """

    reads_graph: ClassVar[bool] = False
    default_layers: ClassVar[DefaultLayers] = "last hidden"
    trains_hidden = by("layers", {None: True}, otherwise=False)

    @validated
    def __init__(
        self,
        lam: NonNegativeFloat = 1e-3,
        *,
        boundary: FiniteFloat = 0.6,
        margin: NonNegativeFloat = 0.2,
        p_switch: Annotated[float, Ge(0), Le(1)] = 0.2,
        switch: Switch = "omit",
        redraw: bool = False,
        hinge: bool = False,
        layers: list[str] | None = None,
        lr: NonNegativeFloat | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(lam, layers, lr)
        self.boundary = nn.Parameter(torch.tensor(boundary))
        self.margin = margin
        self.p_switch = p_switch
        self.switch: Switch = switch
        self.redraw = redraw
        self.hinge = hinge
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._masks: dict[int, Tensor] = {}

    def loss_parameters(self) -> Iterable[nn.Parameter]:
        """Return β."""
        return [self.boundary]

    def representation_loss(self, representations: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the sum of the layers' margin losses, a scalar."""
        return self.loss_at(representations, labels, *self.loss_tensors(labels))

    def loss_tensors(self, labels: Tensor) -> Sequence[Tensor]:
        """Return β and, if any pairs are switched, their mask, (B, B)."""
        return (self.boundary, self._switched(labels)) if self.p_switch else (self.boundary,)

    def loss_at(
        self, representations: Sequence[Tensor], labels: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Return the same at a given β, with given switched pairs."""
        boundary, *masks = tensors
        switched = masks[0] if masks else None
        return summed(
            margin_loss(rows, labels, boundary, self.margin, switched, self.hinge, self.switch)
            for rows in representations
        )

    def diagnostics(self) -> dict[str, float]:
        """Return β."""
        return {"r_margin/boundary": self.boundary.item()}

    def _switched(self, labels: Tensor) -> Tensor:
        """Return the mask of switched pairs, (B, B)."""
        n = len(labels)
        if self.redraw or n not in self._masks:
            self._masks[n] = torch.rand(n, n, generator=self._generator) < self.p_switch
        self._masks[n] = self._masks[n].to(labels.device)
        return self._masks[n]
