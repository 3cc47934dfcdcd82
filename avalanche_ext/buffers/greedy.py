"""The memory of GSS-greedy, which prefers samples with unusual gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.buffers.base import NOT_STORED, SlotBuffer
from avalanche_ext.buffers.slots import GroupBy, Slots
from avalanche_ext.validation import validated

Scores = npt.NDArray[np.float64]

FIRST_SCORE = 0.1
"""Score of the first samples, whose gradients cannot be compared with others yet."""


def candidate_weights(scores: Scores) -> Scores:
    """Return (s − min) / (max − min + 0.01), (N,): the weight of each slot in `candidates`.

    The sample with the lowest score has weight 0.

    Args:
        scores: Scores s of the samples held, (N,).
    """
    least = scores.min()
    weights: Scores = (scores - least) / (scores.max() - least + 0.01)
    return weights


def replacement_probabilities(held: Scores, arriving: Scores) -> Scores:
    """Return (s + 1) / ((s + 1) + (s′ + 1)), (B,), and ½ where both scores are −1.

    Args:
        held: Scores s of the candidates, (B,), from −1 to 1.
        arriving: Scores s′ of the samples that would replace them, (B,), from −1 to 1.
    """
    odds = held + 1
    total = odds + arriving + 1
    probabilities: Scores = np.divide(odds, total, out=np.full(len(held), 0.5), where=total > 0)
    return probabilities


def candidates(scores: Scores, n: int, rng: np.random.Generator) -> Slots:
    """Draw `n` slots without replacement, with probabilities proportional to `candidate_weights`.

    Slots of weight 0 come last, in uniform random order.

    Args:
        scores: Scores of the samples held, (N,).
        n: Number of slots to draw.
        rng: Generator of the draw.

    Returns:
        Distinct slots, (min(n, N),), in the order drawn.
    """
    # The order of exponential clocks is a draw without replacement, proportional to their rates.
    clocks, weights = rng.standard_exponential(len(scores)), candidate_weights(scores)
    times = np.divide(clocks, weights, out=np.full(len(scores), np.inf), where=weights > 0)
    return np.lexsort((clocks, times))[:n]


class GreedyBuffer(SlotBuffer):
    """The memory of GSS-greedy (Aljundi et al. 2019), which evicts samples similar to others.

    Each sample has a score from −1 to 1: the largest cosine of its gradient with gradients of
    samples held when it arrived. While slots are free, arriving samples fill them, and the rest of
    that batch is left out. When no slot is free, each sample of a batch, in order of arrival, is
    paired with a different slot (see `candidates`). It replaces the sample in that slot with the
    probability (s + 1) / ((s + 1) + (s′ + 1)), where s is the score of the sample in the slot and
    s′ its own. If a batch has more samples than there are slots, the excess is left out. When the
    buffer shrinks, the samples with the lowest scores stay.

    Scores come from the caller that computes gradients, such as `GSSPlugin`. Samples added without
    scores, which only an empty buffer accepts, get the score 0.1.

    Args:
        max_size: Number of slots, at least 1.
        seed: Seed of the buffer's generator.

    Attributes:
        scores: Score of the sample in each occupied slot, (N,).

    Raises:
        ValueError: If `max_size` is below 1.
    """

    @validated
    def __init__(self, max_size: PositiveInt, seed: int = 0) -> None:
        super().__init__(max_size, seed)
        self.scores: Scores = np.empty(0)
        self._arriving: Scores = np.empty(0)

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return len(self) == self.max_size

    def add(
        self,
        x: Tensor,
        y: Tensor,
        t: Tensor,
        origin: int | Tensor | None = None,
        scores: npt.ArrayLike | None = None,
    ) -> Slots:
        """Show the buffer a batch in order of arrival, with scores; see `SlotBuffer.add`.

        Args:
            x: Samples, (B, ...).
            y: Class labels, (B,).
            t: Task labels, (B,).
            origin: Index of the experience the samples came from, one for all or (B,).
            scores: Scores of the samples, (B,), from −1 to 1; may be None only while the buffer
                is empty.

        Returns:
            The slot of each sample, (B,), -1 if it was left out.

        Raises:
            ValueError: If scores are missing, or are not B numbers from −1 to 1.
        """
        self._arriving = self._checked(scores, len(y))
        return super().add(x, y, t, origin)

    def leave_out(self, n: int) -> None:
        """Count `n` samples as seen without storing them."""
        self.n_seen += n

    def _checked(self, scores: npt.ArrayLike | None, n: int) -> Scores:
        if scores is None:
            if len(self):
                raise ValueError(
                    "scores=None: GreedyBuffer needs a score for each sample, the largest cosine "
                    "of its gradient with those of stored samples; use GSSPlugin, which computes "
                    "them, or another buffer"
                )
            return np.full(n, FIRST_SCORE)
        given = np.asarray(scores, dtype=np.float64)
        if given.shape != (n,) or not np.all(np.abs(given) <= 1):
            raise ValueError(f"scores must be {n} numbers from -1 to 1, but are {scores}")
        return given

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        slots = self._filled(n) if not self.is_full else self._replaced(n)
        for row, slot in enumerate(slots):
            if slot != NOT_STORED:
                self.scores[slot] = self._arriving[row]
                self._occupy(slot, row, groups)
        return slots

    def _filled(self, n: int) -> list[int]:
        size = len(self)
        n_filling = min(n, self.max_size - size)
        self.scores = np.append(self.scores, np.zeros(n_filling))
        return [*range(size, size + n_filling), *[NOT_STORED] * (n - n_filling)]

    def _replaced(self, n: int) -> list[int]:
        slots = candidates(self.scores, n, self.rng)
        chances = replacement_probabilities(self.scores[slots], self._arriving[: len(slots)])
        slots[self.rng.random(len(slots)) >= chances] = NOT_STORED
        return [*slots.tolist(), *[NOT_STORED] * (n - len(slots))]

    def _add_all(self, dataset: Any, origin: int) -> None:
        """Raise TypeError: Avalanche gives a storage policy no gradients."""
        raise TypeError(
            "GreedyBuffer needs the samples' gradients, which Avalanche does not give to a storage "
            "policy: use GSSPlugin, or another buffer"
        )

    def _keep(self, new_size: int) -> Sequence[int]:
        kept: list[int] = np.sort(np.argsort(self.scores, kind="stable")[:new_size]).tolist()
        return kept

    def _reallocate(self, new_size: int, kept: Sequence[int]) -> None:
        self.scores = self.scores[[*kept]]
        super()._reallocate(new_size, kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain data."""
        return {**super().state_dict(), "scores": self.scores.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        super().load_state_dict(state)
        self.scores = np.array(state["scores"], dtype=np.float64)
