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
from avalanche_ext.validation import validated


class RMarginPlugin(RepresentationLossPlugin):
    """Add λ times the margin loss with switched pairs to the criterion, in the first task too.

    R-margin (Roth and others 2020, "Revisiting training strategies and generalization performance
    in deep metric learning") as the DRL paper (Chen, Diethe and Flach 2020) compares itself with
    it, beside `BalancedReplayPlugin`. See `functional.margin_loss`. What follows the code of the
    latter, and not Roth and others:

    1. Distances are squared, and the loss is a sum over all pairs of the mini-batch, not over
       sampled ones.
    2. There is no hinge, unless `hinge` is given. Without it the trained boundary β has no
       influence on the model, whatever becomes of it.
    3. One mask of switched pairs serves all mini-batches of a size, by position; `redraw` draws
       one in each iteration.
    4. Switched pairs are left out, rather than pushed apart as with `switch="repel"`.

    Args:
        lam: Weight λ of the loss: 2e-5 on Permuted MNIST, 1e-3 on Split MNIST and Fashion-MNIST,
            1e-4 and 2e-4 on Split CIFAR-10 and CIFAR-100, for mini-batches of 20 (MNIST) and 10
            (CIFAR): the loss grows with the square of their size.
        boundary: β at first.
        margin: γ.
        p_switch: Probability that an ordered pair is switched.
        switch: "omit" or "repel", see `functional.margin_loss`.
        redraw: Whether pairs are drawn in each iteration.
        hinge: Whether each pair adds no less than 0.
        layers: Modules whose outputs are used, and "logits", over which the loss is summed; None
            is the last hidden layer alone, on a ResNet the pooled features.
        lr: Learning rate of β; None is the optimizer's.
        seed: Seed of the masks.

    Attributes:
        boundary: β, a scalar parameter.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: When training starts, if the model lacks one of the layers, or has no hidden
            layer although `layers` is None; or if β shall have a learning rate of its own beside a
            schedule.
    """

    default_layers: ClassVar[DefaultLayers] = "last hidden"

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
        switched = self._switched(labels) if self.p_switch else None
        return summed(
            margin_loss(rows, labels, self.boundary, self.margin, switched, self.hinge, self.switch)
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
