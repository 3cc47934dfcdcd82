"""Watches what each plugin of ours changes in a strategy, hook by hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn

from avalanche_ext.models import SupSup
from avalanche_ext.plugins import ReportingPlugin

HOOKS = (
    "before_training_iteration",
    "before_forward",
    "after_forward",
    "before_backward",
    "after_backward",
    "before_update",
    "after_update",
    "after_training_iteration",
)
"""The hooks of an iteration."""

OUTSIDE = (
    "before_training",
    "before_train_dataset_adaptation",
    "before_training_exp",
    "before_training_epoch",
    "after_training_epoch",
    "after_training_exp",
    "after_training",
    "before_eval",
    "after_eval",
)
"""Other hooks in which nothing may change."""


@dataclass
class State:
    """The training data, model and optimizer at one moment."""

    rows: list[Tensor]
    loss: Tensor | None
    gradient: list[Tensor | None]
    weights: Tensor


@dataclass
class Call:
    """One call of a hook of a plugin.

    Attributes:
        hook: Its name.
        experience: Index of the experience in the stream that is trained on.
        task: Index of the original experience.
        before: What was there before.
        after: What is there after.
        output: The model's output for the mini-batch, where there is one.
        hidden: What the model's classifier saw when it gave that output.
        more: What a check has noted.
    """

    hook: str
    experience: int
    task: int
    before: State
    after: State
    output: Tensor | None = None
    hidden: Tensor | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def changed(self) -> set[str]:
        """Which of rows, loss, gradient and weights the call has changed."""
        a, b = self.before, self.after
        found = set()
        if len(a.rows) != len(b.rows) or not all(map(_same, a.rows, b.rows)):
            found.add("rows")
        if a.loss is not None and b.loss is not None and not torch.equal(a.loss, b.loss):
            found.add("loss")
        if not all(map(_same, a.gradient, b.gradient)):
            found.add("gradient")
        if not _same(a.weights, b.weights):
            found.add("weights")
        return found


def _joined(x: Tensor, pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    """What the body returned for each row of x, (B, H), where it ran for some rows at a time."""
    if len(pieces) == 1:
        return pieces[0][1]
    places: dict[bytes, list[int]] = {}
    for i, row in enumerate(x):
        places.setdefault(row.detach().numpy().tobytes(), []).append(i)
    order = [places[row.detach().numpy().tobytes()].pop(0) for given, _ in pieces for row in given]
    return torch.cat([hidden for _, hidden in pieces])[torch.tensor(order).argsort()]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.equal(a, b)


def state(strategy: Any) -> State:
    """Copies of the training data, model and optimizer."""
    loss = getattr(strategy, "loss", None)
    parameters = [*strategy.model.parameters()]
    return State(
        rows=[column.detach().clone() for column in getattr(strategy, "mbatch", None) or []],
        loss=loss.detach().clone() if isinstance(loss, Tensor) else None,
        gradient=[None if p.grad is None else p.grad.detach().clone() for p in parameters],
        weights=torch.cat([p.detach().flatten() for p in parameters]),
    )


class Criterion(nn.CrossEntropyLoss):
    """Cross-entropy that keeps the labels and values of calls which come from no plugin."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.seen: list[tuple[list[int], float]] = []

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        value = super().forward(outputs, labels)
        # Some strategies ask for one value a row.
        if self.depth == 0 and value.numel() == 1:
            self.seen.append((labels.tolist(), float(value.detach())))
        return value


class Watch:
    """Keeps every call of the hooks of our plugins in a strategy.

    Args:
        strategy: A strategy, before it is trained.
        model: The model that was given to it, which it may have wrapped.
        criterion: Its criterion.
        check: Is given each plugin and each of its calls, when it returns.
    """

    def __init__(
        self,
        strategy: Any,
        model: nn.Module,
        criterion: Criterion,
        check: Callable[[Any, Call, Any], None],
    ) -> None:
        self.strategy = strategy
        self.criterion = criterion
        self.check = check
        self.plugins = [p for p in strategy.plugins if isinstance(p, ReportingPlugin)]
        self.calls: dict[int, list[Call]] = {id(p): [] for p in self.plugins}
        self.n_steps = 0
        self.experience = 0
        self.task = 0
        self._passes: list[tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]] = []
        self._hidden: list[tuple[Tensor, Tensor]] = []
        body = model.body if isinstance(model, SupSup) else model
        body.layers.register_forward_hook(self._body_hook())
        model.register_forward_pre_hook(self._begin_hook())
        for whole in {model, strategy.model}:
            whole.register_forward_hook(self._model_hook())
        for plugin in self.plugins:
            for hook in self._overridden(plugin):
                # On the instance: Avalanche and our checks look hooks up on the class too.
                setattr(plugin, hook, partial(self._called, plugin, hook, getattr(plugin, hook)))
        if strategy.optimizer is not None:
            step = strategy.optimizer.step

            def counted(*args: Any, **kwargs: Any) -> Any:
                self.n_steps += 1
                return step(*args, **kwargs)

            strategy.optimizer.step = counted

    def _overridden(self, plugin: Any) -> list[str]:
        """The hooks in which a plugin acts, and those in which the first one shows what arrives."""
        shown = ("before_training_iteration", "after_training_iteration")
        return [
            hook
            for hook in (*HOOKS, *OUTSIDE)
            if getattr(type(plugin), hook) is not getattr(SupervisedPlugin, hook)
            or (plugin is self.plugins[0] and hook in shown)
        ]

    def _body_hook(self) -> Callable[..., None]:
        # A function, since copies of the model copy the object that a bound method belongs to.
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._hidden.append((inputs[0], output))

        return keep

    def _begin_hook(self) -> Callable[..., None]:
        def forget(module: nn.Module, inputs: Any) -> None:
            self._hidden = []

        return forget

    def _model_hook(self) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._hidden and isinstance(output, Tensor):
                self._passes.append((inputs[0], self._hidden, output))

        return keep

    def _called(self, plugin: Any, hook: str, original: Any, strategy: Any, **kw: Any) -> Any:
        if hook == "before_training_iteration" and plugin is self.plugins[0]:
            self._passes.clear()
        before = state(strategy)
        with self._inside():
            result = original(strategy, **kw)
        call = Call(hook, self.experience, self.task, before, state(strategy))
        call.output = getattr(strategy, "mb_output", None)
        runs = ((x, pieces) for x, pieces, out in self._passes if out is call.output)
        call.hidden = next((_joined(*run) for run in runs), None)
        self.calls[id(plugin)].append(call)
        with self._inside():
            self.check(plugin, call, strategy)
        return result

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self.criterion.depth += 1
        try:
            yield
        finally:
            self.criterion.depth -= 1
