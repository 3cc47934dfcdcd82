"""The constraints of a gradient projection: their samples, and the reference gradients on these."""

from __future__ import annotations

from functools import partial
from operator import is_
from typing import Any

import numpy as np
import torch
from avalanche.models import avalanche_forward
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from avalanche_ext.buffers import GroupBy, SlotBuffer
from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.model.gradients import (
    FlatLayout,
    batched_loss_gradients,
    loss_gradients,
)
from avalanche_ext.functional.model.running import is_samplewise
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import own_model

Groups = dict[int, tuple[object, list[Columns]]]
"""For each class or task: its version in the buffer, and the samples of each of its constraints."""


class Constraints:
    """The constraints from a memory of earlier tasks, and their samples.

    Each class or task in the memory gives one or several constraints, from its samples that do not
    come from the current task. Several constraints get the samples in turn, the oldest first.
    Samples are fetched again only when those of their class or task have changed.

    Args:
        buffer: The memory.
        group_by: "task" or "class".
        n_groups: Number of constraints of each class or task, at least 1; fewer if it has fewer
            samples.
    """

    def __init__(self, buffer: SlotBuffer, group_by: GroupBy, n_groups: int) -> None:
        self.buffer = buffer
        self.group_by: GroupBy = group_by
        self.n_groups = n_groups
        self._task: int | None = None
        self._groups: Groups = {}
        self._earlier: list[object] = []

    def samples(self, current: int, device: torch.device) -> list[Columns]:
        """Return the samples of each constraint, those of the oldest class or task first.

        Args:
            current: The current task.
            device: Device of the returned samples.
        """
        if current != self._task:
            self._task, self._groups, self._earlier = current, {}, []
        earlier = self._versions_of_earlier_tasks(current)
        if not _same(earlier, self._earlier):
            self._groups = self._fetched(current, device)
            self._earlier = earlier
        return [group for _, groups in self._groups.values() for group in groups]

    def __getstate__(self) -> dict[str, Any]:
        # Data that can be fetched again are not stored twice.
        return {**self.__dict__, "_groups": {}, "_earlier": []}

    def _versions_of_earlier_tasks(self, current: int) -> list[object]:
        versions = self.buffer.versions("task")
        return [versions[task] for task in self.buffer.groups("task") if task != current]

    def _fetched(self, current: int, device: torch.device) -> Groups:
        """Return the samples of all constraints, fetching only those that have changed."""
        versions, groups = self.buffer.versions(self.group_by), {}
        for key, slots in self._slots(current).items():
            known = self._groups.get(key)
            if known and known[0] is versions[key]:
                groups[key] = known
                continue
            dealt = self._dealt(slots)
            columns = self.buffer.fetch(np.array([slot for group in dealt for slot in group]))
            sizes = [len(group) for group in dealt]
            x, y, t = (torch.split(column.to(device), sizes) for column in columns)
            groups[key] = versions[key], [*zip(x, y, t, strict=True)]
        return groups

    def _slots(self, current: int) -> dict[int, list[int]]:
        """Return the slots of each class or task whose samples are not of the current task."""
        groups = self.buffer.groups(self.group_by)
        if self.group_by == "task":
            return {task: slots for task, slots in groups.items() if task != current}
        new = {*self.buffer.groups("task").get(current, ())}
        earlier = {key: [s for s in slots if s not in new] for key, slots in groups.items()}
        return {key: slots for key, slots in earlier.items() if slots}

    def _dealt(self, slots: list[int]) -> list[list[int]]:
        n_groups = min(self.n_groups, len(slots))
        return [slots[first::n_groups] for first in range(n_groups)]


def _same(first: list[object], second: list[object]) -> bool:
    return len(first) == len(second) and all(map(is_, first, second))


def references_of(strategy: Strategy, layout: FlatLayout, groups: list[Columns]) -> Tensor:
    """Return the gradients of the criterion on groups of samples, (T, P)."""
    model, criterion = own_model(strategy), criterion_of(strategy)
    are_alike = len({len(y) for _, y, _ in groups}) == 1
    if strategy.device.type == "cuda" and are_alike and _is_batchable(model, criterion):
        x, y = (torch.stack([group[i] for group in groups]) for i in range(2))
        return batched_loss_gradients(model, criterion, x, y, layout)

    def loss(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        value: Tensor = criterion(avalanche_forward(strategy.model, x, t), y)
        return value

    return loss_gradients([partial(loss, *group) for group in groups], layout)


def _is_batchable(model: nn.Module, criterion: Any) -> bool:
    """Return whether torch.func can run several constraints at once."""
    is_known = isinstance(criterion, nn.CrossEntropyLoss)
    return is_known and is_samplewise(model) and not is_multi_task_module(model)
