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
    """MIR (Aljundi et al. 2019): replay what the coming step on the stream interferes with most.

    Of candidates drawn from the memory those are replayed whose loss a step of SGD on the stream's
    rows would increase most. No boundary is read, nor a task label but by models with heads; unlike
    Avalanche's MIR it replays in every iteration but the very first, whatever the experiences are.

    Deviations from the official code, shared with GMED's (Jin, Du and Ren 2021):

    1. Samples of the current task may be replayed, so that there is replay in the first task, too.
    2. The loss after the step is compared with the loss before it, not with the least loss a sample
       has had.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        batch_size: Number of samples replayed in each iteration.
        n_candidates: Number of samples they are chosen from, at least `batch_size`.
        lr: Step size of the look-ahead; None is the optimizer's learning rate of the moment.
        loss: "sum" adds the means over the stream's rows and over the replayed ones, which the
            paper's numbers need; "separate" does, too, in a forward pass of its own for the latter;
            "union" is the mean over all.
        buffer: "reservoir", "ring" (balanced over classes), or a buffer, ours or Avalanche's.
        seed: Seed of the buffer that is made here.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If there are fewer candidates than samples to be replayed.
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
