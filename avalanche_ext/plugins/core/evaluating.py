"""Accuracies on test experiences, measured between two iterations without side effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from avalanche.core import SupervisedPlugin
from avalanche.logging import BaseLogger
from avalanche.training.plugins import LRSchedulerPlugin
from avalanche.training.templates.base_sgd import PeriodicEval

from avalanche_ext.data import InMemoryDataset, Strategy, origin_index
from avalanche_ext.data.views import global_states, set_global_states
from avalanche_ext.plugins.core.composition import MethodPlugin, ReportingPlugin

_OBSERVERS = (BaseLogger, LRSchedulerPlugin, PeriodicEval)
"""Avalanche's plugins that observe evaluations without changing them."""


def accuracies_on(strategy: Strategy, tests: Sequence[Any]) -> list[float]:
    """Return the accuracies on test experiences, in [0, 1], and leave the strategy as it was.

    Args:
        strategy: The strategy, between two iterations.
        tests: The test experiences.
    """
    counter = _Counter()
    with _restored(strategy), _draws_restored(tests):
        taking_part = [each for each in strategy.plugins if not _only_observes(each, strategy)]
        changed: dict[str, Any] = {
            "plugins": [*taking_part, counter],
            # Adapting would add parameters that the optimizer does not know.
            "model_adaptation": lambda model=None: strategy.model if model is None else model,
            # The loss is not needed, and labels may exceed the outputs.
            "criterion": lambda: strategy.loss,
        }
        vars(strategy).update(changed)
        strategy.eval(tests)
    return [float(right) / seen for right, seen in zip(counter.right, counter.seen, strict=True)]


def drawn_part(experience: Any, n: int, seed: int) -> Any:
    """Return a test experience with `n` of its samples, in the order of the data set."""
    dataset = experience.logging().dataset
    if n >= len(dataset):
        return experience
    generator = np.random.default_rng([seed, origin_index(experience)])
    rows = np.sort(generator.choice(len(dataset), n, replace=False))
    return _Part(experience, dataset.subset(rows.tolist()))


class _Counter(SupervisedPlugin):  # type: ignore[misc]
    """Counts correct predictions in an evaluation."""

    supports_distributed = False

    def __init__(self) -> None:
        super().__init__()
        self.right: list[Any] = []
        """Correct predictions in each experience, kept on the device to avoid waiting for it."""
        self.seen: list[int] = []

    def before_eval_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Start counting."""
        self.right.append(0)
        self.seen.append(0)

    def after_eval_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count a mini-batch."""
        self.right[-1] = self.right[-1] + (strategy.mb_output.argmax(1) == strategy.mb_y).sum()
        self.seen[-1] += len(strategy.mb_y)


class _Part:
    """A test experience with some of its samples."""

    def __init__(self, experience: Any, dataset: Any) -> None:
        self._experience = experience
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        if name == "_experience":  # It does not exist yet while being copied.
            raise AttributeError(name)
        return getattr(self._experience, name)


@contextmanager
def _restored(strategy: Strategy) -> Iterator[None]:
    """Restore afterwards what an evaluation may change in a strategy, and the global generators."""
    attributes, model = dict(vars(strategy)), strategy.model
    tensors = [(each, each.detach().clone()) for each in (*model.parameters(), *model.buffers())]
    generators = global_states()
    cuda = torch.cuda.get_rng_state_all() if strategy.device.type == "cuda" else []
    try:
        yield
    finally:
        vars(strategy).clear()
        vars(strategy).update(attributes)
        with torch.no_grad():
            for tensor, before in tensors:
                if not torch.equal(tensor, before):
                    tensor.copy_(before)
        set_global_states(generators)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _draws_restored(tests: Sequence[Any]) -> Iterator[None]:
    """Restore afterwards the generators of the test experiences' random transforms."""
    views = [each.dataset.eval() for each in tests if isinstance(each.dataset, InMemoryDataset)]
    with ExitStack() as stack:
        for view in views:
            stack.enter_context(view.drawing(view.draws()))
        yield


def _only_observes(plugin: Any, strategy: Strategy) -> bool:
    """Return whether a plugin observes evaluations and cannot change their results."""
    is_analysis = isinstance(plugin, ReportingPlugin) and not isinstance(plugin, MethodPlugin)
    return (
        plugin is strategy.evaluator
        or plugin is strategy.clock
        or is_analysis
        or isinstance(plugin, _OBSERVERS)
        or bool(getattr(plugin, "only_observes", False))
    )
