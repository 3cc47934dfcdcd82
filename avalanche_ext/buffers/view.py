"""Avalanche's own buffers, read slot by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised.der import DER
from torch import Tensor

from avalanche_ext.buffers.base import NOT_STORED, SlotBuffer
from avalanche_ext.buffers.slots import GroupBy, Slots
from avalanche_ext.data import InMemoryDataset, Strategy, fetch_all, origin_index


class PolicyBuffer(SlotBuffer):
    """A view of an Avalanche buffer, whose policy chooses its samples after each experience.

    `add` keeps nothing; `post_adapt` shows the policy a whole experience and then copies all
    samples that the policy holds, with random augmentation as drawn at that moment. Avalanche does
    not record which experience a stored sample came from, so "task" means its task label here.

    Args:
        policy: Any `ExemplarsBuffer` of Avalanche.
        seed: Seed of the generator that `sample` draws from.
    """

    def __init__(self, policy: ExemplarsBuffer, seed: int = 0) -> None:
        super().__init__(policy.max_size, seed)
        self.policy = policy
        self._take_over()

    @property
    def buffer(self) -> InMemoryDataset:
        """The samples copied from the policy; it cannot be assigned."""
        return super().buffer

    @buffer.setter
    def buffer(self, dataset: Any) -> None:
        raise TypeError(
            f"this buffer copies what Avalanche's {type(self.policy).__name__} holds: call "
            "update_from_dataset, or use a buffer from avalanche_ext.buffers"
        )

    def task_of(self, experience: Any) -> int:
        """Return the task label of an experience.

        If it is the only label so far, as on streams without task labels, the memory holds one task
        alone. Then -1 is returned, which no sample has, except for the first experience of a
        stream, whose label is returned.
        """
        column = getattr(experience.logging().dataset, "targets_task_labels", None)
        labels = {0} if column is None else {*column.uniques}
        is_only_label = self.tasks() <= labels
        return -1 if is_only_label and origin_index(experience) > 0 else int(min(labels))

    def add(self, x: Tensor, y: Tensor, t: Tensor, origin: int | Tensor | None = None) -> Slots:
        """Keep nothing and return -1 for each sample: the policy sees whole experiences only."""
        return np.full(len(x), NOT_STORED, dtype=np.int64)

    def update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Show the policy the strategy's current experience; see `post_adapt`."""
        if isinstance(strategy, DER):
            raise TypeError(
                "Avalanche's DER needs logits, which a PolicyBuffer does not store: "
                "give it another buffer from avalanche_ext.buffers, or leave it its own"
            )
        super().update(strategy, **kwargs)

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Show the policy the experience, then copy all samples it holds."""
        self.policy.post_adapt(agent_state, exp)
        self._take_over()

    def update_from_dataset(self, new_data: Any, strategy: Strategy | None = None) -> None:
        """Show the policy a dataset, then copy all samples it holds."""
        self.policy.update_from_dataset(new_data)
        self._take_over()

    def resize(self, strategy: Strategy, new_size: int) -> None:
        """Resize the policy's buffer, and copy the samples that are left."""
        self.policy.resize(strategy, new_size)
        self._take_over()

    def state_dict(self) -> dict[str, Any]:
        """Raise TypeError: Avalanche's buffers have no state_dict."""
        raise self._stateless()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise TypeError: Avalanche's buffers have no state_dict."""
        raise self._stateless()

    def _stateless(self) -> TypeError:
        return TypeError(
            f"Avalanche's {type(self.policy).__name__} has no state_dict: "
            "pickle the buffer, or use a buffer from avalanche_ext.buffers"
        )

    def _take_over(self) -> None:
        held = self.policy.buffer
        self.max_size = max(self.policy.max_size, len(held))
        self._clear()
        if len(held):
            x, y, t = fetch_all(held)
            super().add(x, y, t)

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        for row in range(n):
            self._occupy(row, row, groups)
        return range(n)

    def _keep(self, new_size: int) -> Sequence[int]:
        return range(min(new_size, len(self)))


def as_slot_buffer(buffer: ExemplarsBuffer, seed: int = 0) -> SlotBuffer:
    """Return `buffer` itself if it is a `SlotBuffer`, else a view that draws from `seed`."""
    return buffer if isinstance(buffer, SlotBuffer) else PolicyBuffer(buffer, seed)
