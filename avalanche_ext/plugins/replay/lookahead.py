"""Base class of replay plugins that look one step of SGD ahead."""

from __future__ import annotations

from typing import Any

import torch

from avalanche_ext.buffers import SlotBuffer, Slots
from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.lookahead.lookahead import NowAndAhead, interference, step_ahead
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import learning_rates, model_inputs, own_model
from avalanche_ext.plugins.replay.memory import MemoryPlugin, ReplayLoss


class LookAheadReplayPlugin(MemoryPlugin):
    """Replay that depends on how the coming step on the stream would change the model.

    The look-ahead is a step of plain SGD on the criterion of the stream's rows, whatever the
    strategy's optimizer. The strategy's own step computes its gradient again, because other plugins
    may have added to its loss. The look-ahead leaves the model, the optimizer and the random
    generators as they were.

    Args:
        buffer: The memory.
        batch_size: Number of samples to replay in each iteration.
        loss: "sum", "separate" or "union"; see `MemoryPlugin`.
        lr: Step size of the look-ahead; None takes the optimizer's current learning rate.
    """

    def __init__(
        self, buffer: SlotBuffer, batch_size: int, loss: ReplayLoss, lr: float | None
    ) -> None:
        super().__init__(buffer, batch_size, "joined", loss)
        self.lr = lr

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Extend the mini-batch; dropout in the look-ahead does not consume random numbers."""
        with generators_kept(strategy.device):
            super().before_training_iteration(strategy, **kwargs)

    def _after_a_step_on(self, strategy: Strategy, columns: Columns) -> NowAndAhead:
        """Return the model's outputs now and after a step on these samples."""
        x, y, t = columns
        inputs, rates = model_inputs(strategy, x, t), learning_rates(strategy, self.lr)
        return step_ahead(own_model(strategy), criterion_of(strategy), inputs, y, rates)

    def _most_interfered(
        self, strategy: Strategy, outputs: NowAndAhead, n_candidates: int
    ) -> Slots:
        """Draw candidates and return the `batch_size` whose loss the step increases most.

        Maximally interfered retrieval (Aljundi et al. 2019). If there are fewer, all are returned.
        """
        candidates = self.buffer.sample_slots(n_candidates)
        x, y, t = self._fetched(strategy, candidates)
        with torch.no_grad():
            increase = interference(
                outputs, model_inputs(strategy, x, t), y, criterion_of(strategy)
            )
        n = min(self.batch_size, len(candidates))
        chosen: Slots = candidates[increase.topk(n).indices.cpu().numpy()]
        return chosen


def check_candidates(n_candidates: int, batch_size: int) -> None:
    """Raise ValueError if there are fewer candidates than samples to choose."""
    if n_candidates < batch_size:
        raise ValueError(
            f"n_candidates={n_candidates}: must be at least batch_size, which is {batch_size}"
        )
