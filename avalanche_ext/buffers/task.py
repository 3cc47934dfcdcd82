"""The last samples of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avalanche_ext.buffers.base import SlotBuffer, positive
from avalanche_ext.buffers.groups import GroupBy


class TaskBuffer(SlotBuffer):
    """GEM's episodic memory: a ring of fixed size for each task (Lopez-Paz and Ranzato 2017).

    A task is the experience a sample came from. Each new task adds slots of its own, so that
    `max_size` is the size per task times the number of tasks seen, at least one.

    Args:
        size_per_task: Samples held of each task, its last ones, at least 1.
        seed: Seed of the generator that `sample` draws from; what is stored does not depend on it.

    Raises:
        ValueError: If `size_per_task` is below 1.
    """

    def __init__(self, size_per_task: int, seed: int = 0) -> None:
        super().__init__(size_per_task, seed)
        self.size_per_task = size_per_task
        self.groups("task")

    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        members, size, slots = self.groups("task"), len(self), []
        for row, task in enumerate(groups["task"]):
            held = members.get(task, [])
            if len(held) < self.size_per_task:
                slot, size = size, size + 1
            else:
                slot = held[0]
            self._occupy(slot, row, groups)
            slots.append(slot)
        needed = self.size_per_task * max(1, len(members))
        if needed > self.max_size:
            self._reserve(needed)
        return slots

    def _reserve(self, needed: int) -> None:
        """Add slots, without rebuilding the indexes, which know the arriving samples already."""
        self._storage = self._storage.reallocated(needed, range(len(self)))
        self._notes = self._notes.reallocated(needed, range(self.max_size))
        self.max_size = needed

    def resize(self, strategy: Any, new_size: int) -> None:
        """Divide `new_size` slots equally among the tasks seen; each keeps its last samples."""
        n_tasks = max(1, len(self.groups("task")))
        self.size_per_task = positive(f"new_size / {n_tasks} tasks", new_size // n_tasks)
        super().resize(strategy, self.size_per_task * n_tasks)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on later, as tensors and plain data."""
        return {**super().state_dict(), "size_per_task": self.size_per_task}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state that `state_dict` returned."""
        self.size_per_task = state["size_per_task"]
        super().load_state_dict(state)

    def _keep(self, new_size: int) -> Sequence[int]:
        members = self.groups("task").values()
        return sorted(slot for slots in members for slot in slots[-self.size_per_task :])
