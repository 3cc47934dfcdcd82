"""Stop a run whose loss is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor

from avalanche_ext.data import Strategy

_CHECKED_EVERY = 50


class DivergedError(ArithmeticError):
    """A loss became infinite or not a number."""


class LossGuard(SupervisedPlugin):  # type: ignore[misc]
    """Raise DivergedError, naming the iteration, when the training loss is not finite.

    Losses are looked at 50 at a time, because each look makes the host wait for the device.
    """

    supports_distributed = True

    def __init__(self) -> None:
        super().__init__()
        self._losses: list[Tensor] = []

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Remember the loss."""
        self._losses.append(strategy.loss.detach())
        if len(self._losses) == _CHECKED_EVERY:
            self._check(strategy.clock.train_iterations)

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Look at the losses of the last iterations."""
        # The clock has not counted the iteration that `after_backward` belongs to, now it has.
        self._check(strategy.clock.train_iterations - 1)

    def _check(self, last_iteration: int) -> None:
        if not self._losses:
            return
        losses = torch.cat([loss.reshape(1) for loss in self._losses])
        self._losses.clear()
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            first = int(bad[0])
            iteration = last_iteration - len(losses) + 1 + first
            raise DivergedError(
                f"the loss became {float(losses[first])} at iteration {iteration} (counted from "
                "0 over all experiences); a smaller optimizer.lr usually helps"
            )
