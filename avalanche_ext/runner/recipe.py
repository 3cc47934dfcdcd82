"""Plugins for the keys of the YAML's `training` section beyond epochs and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from avalanche_ext.config import Component
from avalanche_ext.config.catalogue import Kind
from avalanche_ext.config.components import OF_THE_RUN
from avalanche_ext.config.schema import Method
from avalanche_ext.data import RepeatedBatches, Strategy, origin_index, take_back_stop
from avalanche_ext.runner.foreign import call, check_class, parameters


class IterationLimit(SupervisedPlugin):  # type: ignore[misc]
    """Ends the training on an experience after a number of iterations.

    The strategy must be set to at least as many epochs as iterations.

    Args:
        iterations: Steps on each experience, at least 1.
    """

    supports_distributed = True

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self._n_done = 0

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count from 0."""
        self._n_done = 0
        take_back_stop(strategy)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Ask the strategy to stop after the last iteration."""
        self._n_done += 1
        if self._n_done == self.iterations:
            strategy.stop_training()


class RepeatedSteps(SupervisedPlugin):  # type: ignore[misc]
    """Take several steps in a row on each mini-batch.

    Replay plugins draw new samples in every step, but store the stream's rows once.

    Args:
        repeats: Steps on each mini-batch, at least 1.
    """

    supports_distributed = True

    def __init__(self, repeats: int) -> None:
        super().__init__()
        self.repeats = repeats

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Repeat the batches of the loader; all plugins have set theirs by now."""
        if not isinstance(strategy.dataloader, RepeatedBatches):
            strategy.dataloader = RepeatedBatches(strategy.dataloader, self.repeats)


class FreshOptimizer(SupervisedPlugin):  # type: ignore[misc]
    """Forget the optimizer's state, its momentum and moments, at the start of each experience.

    The parts into which an online stream cuts an experience count as one experience.
    """

    supports_distributed = True

    def __init__(self) -> None:
        super().__init__()
        self._origin: int | None = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Forget the state if another experience starts."""
        origin = origin_index(strategy.experience)
        if origin != self._origin:
            strategy.optimizer.state.clear()
        self._origin = origin


class Schedule(SupervisedPlugin):  # type: ignore[misc]
    """Change learning rates by one of torch's schedulers.

    Avalanche's `LRSchedulerPlugin` restarts a schedule by setting `last_epoch` to 0, which does not
    reset a scheduler's other counters (such as those of CosineAnnealingWarmRestarts). This plugin
    creates a new scheduler instead.

    Args:
        make: Creates the scheduler of an optimizer.
        by: "iteration" steps it after each iteration, "epoch" after each epoch.
        reset: Whether the schedule restarts in each experience, with the optimizer's initial
            learning rates. If not, one schedule runs over all experiences. The parts into which an
            online stream cuts an experience count as one experience.
    """

    supports_distributed = True

    def __init__(self, make: Callable[[Optimizer], LRScheduler], by: str, reset: bool) -> None:
        super().__init__()
        self.make = make
        self.by = by
        self.reset = reset
        self.scheduler: LRScheduler | None = None
        self._origin: int | None = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start the schedule, in the first experience or in each."""
        origin = origin_index(strategy.experience)
        if self.scheduler is None or (self.reset and origin != self._origin):
            self.start(strategy)
        self._origin = origin

    def start(self, strategy: Strategy) -> None:
        """Restart the schedule with the optimizer's initial learning rates."""
        for group in strategy.optimizer.param_groups:
            group["lr"] = group.pop("initial_lr", group["lr"])
        self.scheduler = self.make(strategy.optimizer)

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Step by iterations."""
        self._step("iteration")

    def after_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Step by epochs."""
        self._step("epoch")

    def _step(self, unit: str) -> None:
        if self.by == unit and self.scheduler is not None:
            self.scheduler.step()


def recipe_plugins(method: Method) -> list[SupervisedPlugin]:
    """Return the plugins that implement a method's recipe."""
    training, scheduler = method.training, method.scheduler
    plugins: list[SupervisedPlugin] = []
    if training.repeats > 1:
        plugins.append(RepeatedSteps(training.repeats))
    if training.iterations is not None:
        plugins.append(IterationLimit(training.iterations))
    if run_keys("optimizer", method.optimizer)["reset"]:
        plugins.append(FreshOptimizer())
    if scheduler is not None:
        called = without_run_keys("scheduler", scheduler)

        def make(optimizer: Optimizer) -> LRScheduler:
            made: LRScheduler = call(called, {"optimizer": optimizer})
            check_class("scheduler", called, made)
            return made

        plugins.append(Schedule(make, **run_keys("scheduler", scheduler)))
    return plugins


def clip(optimizer: Optimizer, max_norm: float) -> None:
    """Make an optimizer scale the gradient down to a maximum norm in each step.

    This happens within the step, so after all plugins have changed the gradient, and also in extra
    steps that plugins and strategies take.

    Args:
        optimizer: The optimizer.
        max_norm: The largest Euclidean norm over all parameters, above 0.
    """

    def scale(optimizer: Optimizer, *_: Any) -> None:
        torch.nn.utils.clip_grad_norm_(_stepped(optimizer), max_norm)

    optimizer.register_step_pre_hook(scale)


def run_keys(kind: Kind, component: Component) -> dict[str, Any]:
    """Return the runner's keys beside a component's arguments, with defaults.

    If a component has an argument of that name, the component gets it instead.
    """
    own = parameters(component)
    return {
        p.name: p.default if p.name in own else component.args.get(p.name, p.default)
        for p in OF_THE_RUN[kind]
    }


def without_run_keys(kind: Kind, component: Component) -> Component:
    """Return a component with only its own arguments."""
    not_own = {p.name for p in OF_THE_RUN[kind]} - parameters(component)
    own = {key: value for key, value in component.args.items() if key not in not_own}
    return replace(component, args=own)


def _stepped(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
