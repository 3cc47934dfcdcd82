"""Stop training once the loss, the inputs or the weights are no longer finite."""

from __future__ import annotations

from math import isfinite
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.functional.model.wrapped import plain_name, unwrapped
from avalanche_ext.plugins.core.experiences import Endings

_CHECKED_EVERY = 50


class DivergedError(ArithmeticError):
    """A loss or weight became infinite or not a number."""


class LossGuard(SupervisedPlugin):  # type: ignore[misc]
    """Raise DivergedError if the training loss or a weight is not finite, and say where.

    Every strategy with a `MethodPlugin` has one, see `guard`. On the CPU it checks each loss before
    the backward pass. On other devices each check makes the host wait, so it checks 50 losses at a
    time. It checks the trained weights at the end of each epoch, or on an online stream at the end
    of the last part of each experience.
    """

    supports_distributed = True
    reads_graph = False

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[Tensor] = []
        self._endings = Endings()
        self._is_last_part = True

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check whether this is the last part of an experience."""
        self._endings.ends(strategy.experience)
        self._is_last_part = self._endings.is_over

    def before_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check the loss, or remember it for later."""
        loss, iteration = strategy.loss.detach(), strategy.clock.train_iterations
        if not _makes_the_host_wait(loss):
            if not isfinite(loss.item()):
                raise _diverged(strategy, loss.item(), iteration, _cause(strategy))
            return
        self._waiting.append(torch.stack([loss.float().sum(), _total(_arrived(strategy), loss)]))
        if len(self._waiting) == _CHECKED_EVERY:
            self._look(strategy, iteration)

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Check the losses of the last iterations and the weights."""
        if not self._is_last_part:
            return
        # The clock has not counted the iteration that `before_backward` belongs to, now it has.
        iteration = strategy.clock.train_iterations - 1
        self._look(strategy, iteration)
        name = _bad_weight(strategy.model)
        if name:
            raise DivergedError(
                f"the weights {name!r} are not finite after iteration {iteration} "
                f"{_of(strategy)}: a lower learning rate usually helps"
            )

    def _look(self, strategy: Strategy, last_iteration: int) -> None:
        if not self._waiting:
            return
        first = last_iteration - len(self._waiting) + 1
        seen = torch.stack(self._waiting).tolist()
        self._waiting.clear()
        for iteration, (loss, of_inputs) in enumerate(seen, first):
            if not isfinite(loss):
                cause = _BY_RATE if isfinite(of_inputs) else _BY_INPUTS
                raise _diverged(strategy, loss, iteration, cause)


def guard(strategy: Strategy) -> None:
    """Give the strategy a `LossGuard`, unless it has one.

    It is a separate plugin, so that no method's hooks can interfere with it.
    """
    plugins = strategy.plugins
    if not any(isinstance(plugin, LossGuard) for plugin in plugins):
        # After everything that adds to the loss, but before the clock, which must be last.
        has_clock = bool(plugins) and plugins[-1] is strategy.clock
        plugins.insert(len(plugins) - has_clock, LossGuard())


def _makes_the_host_wait(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu"


_BY_RATE = "a lower learning rate usually helps"
_BY_INPUTS = "the stream's inputs are not finite; look at the data and its transforms"
_BY_MEMORY = (
    "the replayed samples are not finite; look at the data and its transforms, or take a lower "
    "learning rate"
)


def _diverged(strategy: Strategy, loss: float, iteration: int, cause: str) -> DivergedError:
    return DivergedError(
        f"the loss became {loss} at iteration {iteration} {_of(strategy)}: {cause}"
    )


def _of(strategy: Strategy) -> str:
    experience = origin_index(strategy.experience)
    return f"(counted from 0 over all experiences) of experience {experience}"


def _cause(strategy: Strategy) -> str:
    """Return why the loss of the current mini-batch is not finite, and a remedy."""
    if not isfinite(_total(_arrived(strategy), strategy.loss)):
        return _BY_INPUTS
    name = _bad_weight(strategy.model)
    if name is None and not isfinite(_total(strategy.mb_x, strategy.loss)):
        return _BY_MEMORY
    if name is None:
        return f"the stream's inputs and the weights are finite; {_BY_RATE}"
    if strategy.clock.train_iterations == 0:
        return f"the weights {name!r} were not finite when training began"
    return f"the weights {name!r} are no longer finite; {_BY_RATE}"


def _arrived(strategy: Strategy) -> object:
    """Return the inputs from the stream, without replayed ones if a plugin can tell them apart."""
    arrived = (getattr(plugin, "arrived", None) for plugin in strategy.plugins)
    return next((columns[0] for columns in arrived if columns), strategy.mb_x)


def _total(inputs: object, like: Tensor) -> Tensor:
    """Return the sum of the inputs, which is finite if they are; 0 if they are not a tensor."""
    if not isinstance(inputs, Tensor):
        return torch.zeros((), device=like.device)
    return inputs.detach().sum(dtype=torch.float32)


@torch.no_grad()
def _bad_weight(model: nn.Module) -> str | None:
    """Return the name of the first trained parameter that is not finite; None if all are."""
    named = unwrapped(model).named_parameters()
    trained = {plain_name(name): p for name, p in named if p.requires_grad and p.numel()}
    # A sum may overflow, but is ten times as fast as a maximum.
    sums = [p.sum(dtype=torch.float32) for p in trained.values()]
    if not sums or isfinite(torch.stack(sums).sum()):
        return None
    return next((name for name, p in trained.items() if not p.isfinite().all()), None)
