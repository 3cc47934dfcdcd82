"""What replay plugins share that look one step of SGD ahead."""

from __future__ import annotations

from typing import Any

import torch

from avalanche_ext.buffers import SlotBuffer, Slots
from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.lookahead.lookahead import NowAndAhead, interference, step_ahead
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import learning_rates, model_inputs
from avalanche_ext.plugins.replay.memory import MemoryPlugin, ReplayLoss


class LookAheadReplayPlugin(MemoryPlugin):
    """Replay, choosing or changing what is replayed by where a step on the stream would lead.

    The step is one of plain SGD, whatever the strategy's optimizer is. Its gradient is not taken
    over into the strategy's own step: that is of a loss to which other plugins may add, and of one
    forward pass, whose output and loss they see.

    Args:
        buffer: The memory.
        batch_size: Number of samples replayed in each iteration.
        loss: "sum", "separate" or "union"; see `MemoryPlugin`.
        lr: Step size of the look-ahead; None is the optimizer's learning rate of the moment.
    """

    def __init__(
        self, buffer: SlotBuffer, batch_size: int, loss: ReplayLoss, lr: float | None
    ) -> None:
        super().__init__(buffer, batch_size, "joined", loss)
        self.lr = lr

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Extend the mini-batch, leaving the random layers of the model as they were."""
        with generators_kept(strategy.device):
            super().before_training_iteration(strategy, **kwargs)

    def _after_a_step_on(self, strategy: Strategy, columns: Columns) -> NowAndAhead:
        """Return the model's outputs now and after a step on these samples."""
        x, y, t = columns
        inputs, rates = model_inputs(strategy, x, t), learning_rates(strategy, self.lr)
        return step_ahead(strategy.model, criterion_of(strategy), inputs, y, rates)

    def _most_interfered(
        self, strategy: Strategy, outputs: NowAndAhead, n_candidates: int
    ) -> Slots:
        """Draw candidates; return those whose loss the step increases most, `batch_size` at most.

        It is maximally interfered retrieval (Aljundi et al. 2019).
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

    def _fetched(self, strategy: Strategy, slots: Slots) -> Columns:
        x, y, t = (column.to(strategy.device) for column in self.buffer.fetch(slots))
        return x, y, t


def check_candidates(n_candidates: int, batch_size: int) -> None:
    """Raise ValueError if there are fewer candidates than samples to be chosen."""
    if n_candidates < batch_size:
        raise ValueError(
            f"n_candidates={n_candidates}: must be at least batch_size, which is {batch_size}"
        )
