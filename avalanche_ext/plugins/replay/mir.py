"""Maximally interfered retrieval (MIR)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import FiniteFloat, PositiveInt

from avalanche_ext.buffers import Slots
from avalanche_ext.data import Strategy
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.replay.lookahead import LookAheadReplayPlugin, check_candidates
from avalanche_ext.plugins.replay.memory import ReplayLoss, named_buffer
from avalanche_ext.validation import validated


class MIRPlugin(LookAheadReplayPlugin):
    """MIR (Aljundi et al. 2019): replay the samples whose loss the coming step increases most.

    In every iteration candidates are drawn from the memory. Those whose loss would increase most by
    a step of SGD on the stream's rows are replayed. It uses no task boundaries, and task labels
    only for models with heads. Unlike Avalanche's MIR it replays in every iteration but the very
    first, in all experiences.

    Deviations from the official code, shared with GMED's (Jin, Du and Ren 2021):

    1. Samples of the current task may be replayed, so the first task has replay too.
    2. The loss after the step is compared with the loss before it, not with the lowest loss that
       the sample has ever had.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples replayed in each iteration.
        n_candidates: Number of samples to choose from, at least `batch_size`.
        lr: Step size of the look-ahead; None takes the optimizer's current learning rate.
        loss: "sum" is the criterion over the stream's rows plus that over the replayed ones, which
            reproduces the paper's numbers; "separate" is the same sum, with a forward pass for the
            replayed rows alone; "union" is the criterion over all rows.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer, ours or Avalanche's.
        seed: Seed of the memory that is created for a name.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `n_candidates` is less
            than `batch_size`.
    """

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 500,
        batch_size: PositiveInt = 10,
        *,
        n_candidates: PositiveInt = 50,
        lr: Annotated[FiniteFloat, Gt(0)] | None = None,
        loss: ReplayLoss = "sum",
        buffer: Literal["reservoir", "ring"] | ExemplarsBuffer = "reservoir",
        seed: int = 0,
    ) -> None:
        check_candidates(n_candidates, batch_size)
        memory = named_buffer(buffer, mem_size, seed)
        super().__init__(memory, batch_size, loss, lr)
        self.n_candidates = n_candidates

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        outputs = self._after_a_step_on(strategy, arrived)
        return self._most_interfered(strategy, outputs, self.n_candidates)
