"""Leaving and resuming a run in the middle of an experience.

It holds for Avalanche's usual training loop over batches of a `TensorLoader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.training.templates.base_sgd import BaseSGDTemplate
from avalanche.training.templates.update_type import SGDUpdate

from avalanche_ext.data import RepeatedBatches, TensorLoader


def resumable_loader(strategy: Any) -> TensorLoader | None:
    """Return the loader that a strategy trains from, if its position determines that of the run."""
    kind: Any = type(strategy)
    loader = strategy.dataloader
    while isinstance(loader, RepeatedBatches):
        loader = loader.loader
    has_usual_loop = (
        kind.training_epoch is SGDUpdate.training_epoch
        and kind._train_exp is BaseSGDTemplate._train_exp
        and kind.train is BaseSGDTemplate.train
    )
    return loader if has_usual_loop and type(loader) is TensorLoader else None


def go_on(strategy: Any, experiences: Sequence[Any], part: int, **kwargs: Any) -> None:
    """Train to the end of an experience from the position of the strategy's resumable loader.

    This does what Avalanche's `train` does from there.

    Args:
        strategy: The restored strategy.
        experiences: The parts of the experience.
        part: The one that the strategy is in.
        **kwargs: The arguments of `train`.
    """
    strategy.training_epoch(**kwargs)
    strategy._after_training_epoch(**kwargs)
    for _ in range(strategy.clock.train_exp_epochs, strategy.train_epochs):
        strategy._before_training_epoch(**kwargs)
        if strategy._stop_training:
            strategy._stop_training = False
            break
        strategy.training_epoch(**kwargs)
        strategy._after_training_epoch(**kwargs)
    strategy._after_training_exp(**kwargs)
    for strategy.experience in experiences[part + 1 :]:
        strategy._before_training_exp(**kwargs)
        strategy._train_exp(strategy.experience, [], **kwargs)
        strategy._after_training_exp(**kwargs)
    strategy._after_training(**kwargs)
    strategy._train_cleanup()
