"""The base of all buffers: slots behind the interface of Avalanche's storage policies."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from avalanche.benchmarks.utils import make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import TensorDataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from avalanche.models.utils import is_multi_task_module
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised.der import DER, compute_dataset_logits
from pydantic import PositiveInt
from torch import Tensor, nn

from avalanche_ext.buffers.slots import (
    N_COLUMNS,
    GroupBy,
    GroupIndex,
    SlotNotes,
    Slots,
    SlotStorage,
)
from avalanche_ext.data import (
    Batch,
    InMemoryDataset,
    Strategy,
    fetch_all,
    labels_by_head,
    origin_index,
)
from avalanche_ext.functional.model.wrapped import unwrapped
from avalanche_ext.validation import validated

NOT_STORED = -1


class HeldClass(NamedTuple):
    """The samples that a buffer holds of one class, unaffected by later changes to the buffer."""

    buffer: InMemoryDataset


class SlotBuffer(ExemplarsBuffer):  # type: ignore[misc]
    """A memory of slots for one sample each; subclasses decide which slot a sample takes.

    It is an Avalanche storage policy (`buffer`, `buffer_groups`, `buffer_datasets`, `update`,
    `update_from_dataset`, `post_adapt`, `resize`, `max_size`) that can also be written and read
    sample by sample (`add`, `sample`, `fetch`, `replace`). It draws from its own generator. It
    keeps samples as they were when they were added, so random augmentation is frozen; Avalanche's
    buffers keep references to their source instead.

    A subclass implements `_place` and `_keep`.

    Args:
        max_size: Number of slots, at least 1.
        seed: Seed of the buffer's generator.

    Raises:
        ValueError: If `max_size` is not an integer above 0, or more slots than memory can hold.
    """

    depends_on_order: ClassVar[bool] = True
    """Whether the order of arrival affects which samples are kept. If so, the buffer shuffles whole
    datasets before it stores them, because most of Avalanche's are sorted by class."""

    @validated
    def __init__(self, max_size: PositiveInt, seed: int = 0) -> None:
        super().__init__(max_size)
        self.rng = np.random.default_rng(seed)
        self.n_seen = 0
        self._storage = SlotStorage(max_size)
        try:
            self._notes = SlotNotes().reallocated(max_size, [])
        except MemoryError:
            raise ValueError(
                f"max_size (mem_size of a plugin) is {max_size}, but this machine's memory cannot "
                "hold that many slots: give the number of samples to store"
            ) from None
        self._indexes: dict[GroupBy, GroupIndex] = {}
        self._has_heads = False
        self._snapshot: InMemoryDataset | None = None

    def note_heads(self, model: nn.Module) -> None:
        """Note whether equal labels of two tasks are two classes.

        They are if the model has a head for each task. Plugins, `post_adapt` and
        `update_from_dataset` do this by themselves if they know the strategy.
        """
        has_heads = bool(is_multi_task_module(unwrapped(model)))
        if has_heads != self._has_heads:
            self._has_heads = has_heads
            self._refresh()

    def classes(self, y: Tensor, t: Tensor) -> list[int]:
        """Return the class of each sample, as `groups` numbers them, given its labels, (B,)."""
        return (labels_by_head(y, t) if self._has_heads else y).tolist()

    def task_of(self, experience: Any) -> int:
        """Return the task that samples of an experience belong to, as `groups` numbers them."""
        return origin_index(experience)

    def tasks(self) -> set[int]:
        """Return the tasks of which samples are held, as `groups` numbers them."""
        return {*self._notes.origin[: len(self)]}

    @abstractmethod
    def _place(self, n: int, groups: Mapping[GroupBy, Sequence[int]]) -> Sequence[int]:
        """Return the slot of each of `n` arriving samples, `NOT_STORED` for those left out.

        An implementation must call `_occupy` for every slot taken, in order of arrival, to keep
        the indexes of groups up to date. `groups` holds the groups of the arriving samples for
        each index that exists.
        """

    @abstractmethod
    def _keep(self, new_size: int) -> Sequence[int]:
        """Return the slots, at most `new_size`, whose samples stay when the buffer is resized."""

    def add(self, x: Tensor, y: Tensor, t: Tensor, origin: int | Tensor | None = None) -> Slots:
        """Show the buffer a batch in order of arrival; its policy decides what to keep.

        Args:
            x: Samples, (B, ...), always of the same shape, dtype and device.
            y: Class labels, (B,), int64.
            t: Task labels, (B,), int64.
            origin: Index of the experience that the samples came from, one for all or (B,); None
                takes `t`. Buffers balanced over tasks use it as the task, because streams without
                task labels give every sample the label 0.

        Returns:
            The slot of each sample, (B,), -1 if it was left out.
        """
        n = len(y)
        origins: list[int]
        origins = (
            [origin] * n if isinstance(origin, int) else (t if origin is None else origin).tolist()
        )
        groups = {by: self.classes(y, t) if by == "class" else origins for by in self._indexes}
        slots = self._place(n, groups)
        # A batch may fill a slot twice: the last sample stays.
        row_of = {slot: row for row, slot in enumerate(slots) if slot != NOT_STORED}
        if row_of:
            columns, rows = [x, y, t], [*row_of.values()]
            if len(rows) < n:
                indices = torch.tensor(rows, device=y.device)
                columns = [column.index_select(0, indices) for column in columns]
            self._storage.write([*row_of], columns)
            for slot, row in row_of.items():
                self._notes.origin[slot] = origins[row]
                self._notes.arrival[slot] = self.n_seen + row
                self._notes.n_replaced[slot] = 0
            self._snapshot = None
        self.n_seen += n
        return np.array(slots, dtype=np.int64)

    def sample(self, n: int) -> Batch:
        """Draw `n` samples uniformly without replacement, all of them if there are fewer.

        Returns:
            `[x, y, t]`, with copies of the samples.

        Raises:
            ValueError: If the buffer is empty.
        """
        return self.fetch(self.sample_slots(n))

    def sample_slots(self, n: int, rng: np.random.Generator | None = None) -> Slots:
        """Draw `n` occupied slots uniformly without replacement, all of them if there are fewer."""
        size, rng = len(self), self.rng if rng is None else rng
        return np.arange(size) if size <= n else rng.choice(size, n, replace=False)

    def fetch(self, slots: Slots) -> Batch:
        """Return copies `[x, y, t]` of the samples in `slots`, (B,).

        Raises:
            ValueError: If the buffer is empty.
        """
        if not len(self):
            raise ValueError(f"{type(self).__name__} is empty: add samples before drawing from it")
        return self._storage.gather(torch.from_numpy(slots))[:N_COLUMNS]

    def replace(self, slots: Slots, x: Tensor) -> None:
        """Overwrite the samples in distinct `slots`, (B,), with `x`, (B, ...); keep labels."""
        self._storage.overwrite(slots, x)
        for slot in slots.tolist():
            self._notes.n_replaced[slot] += 1
            for index in self._indexes.values():
                index.touch(slot)
        self._snapshot = None

    def notes(self, slots: Slots) -> SlotNotes:
        """Return the notes on the samples in `slots`, (B,)."""
        return self._notes.reallocated(len(slots), slots.tolist())

    def groups(self, by: GroupBy) -> dict[int, list[int]]:
        """Return the slots of each class or task, oldest first; do not change the result.

        Tasks are numbered as by `task_of`, and classes as by `classes`.
        """
        return self._index(by).slots

    def versions(self, by: GroupBy) -> dict[int, object]:
        """Return an object for each class or task, replaced by a new one when its samples change.

        Anything computed from a group's samples stays valid while `versions(by)[group]` is the
        same object.
        """
        return self._index(by).versions

    def _index(self, by: GroupBy) -> GroupIndex:
        if by not in self._indexes:
            labels = self._notes.origin
            if by == "class" and len(self):
                labels = self.classes(*self._storage.columns[1:N_COLUMNS])
            order = sorted(range(len(self)), key=self._notes.arrival.__getitem__)
            self._indexes[by] = GroupIndex((slot, labels[slot]) for slot in order)
        return self._indexes[by]

    def _occupy(self, slot: int, row: int, groups: Mapping[GroupBy, Sequence[int]]) -> None:
        """Record that `slot` now holds the arriving sample `row`."""
        for by, index in self._indexes.items():
            index.remove(slot)
            index.add(slot, groups[by][row])

    def __len__(self) -> int:
        return self._storage.size

    @property
    def buffer(self) -> InMemoryDataset:
        """The samples held now, as a dataset that later changes to the buffer do not affect.

        A dataset assigned to it replaces them all, and its task labels become the tasks. If tasks
        matter to the buffer and all labels are 0, as without task labels, that is a ValueError.
        """
        if self._snapshot is None:
            x, y, t, *logits = [c.clone() for c in self._storage.occupied()] or _no_samples()
            held = InMemoryDataset(x, y, t)
            self._snapshot = _with_logits(held, *logits) if logits else held
        return self._snapshot

    @buffer.setter
    def buffer(self, dataset: Any) -> None:
        x, y, t = fetch_all(dataset) if len(dataset) else _no_samples()
        if len(y) and "task" in self._indexes and not t.any():
            raise ValueError(
                f"{type(self).__name__} cannot tell which task each assigned sample belongs to, "
                "because all task labels are 0: use add with origin, or update_from_dataset once "
                "for each task"
            )
        self._clear()
        if len(y):
            self.add(x, y, t)

    @property
    def buffer_groups(self) -> dict[int, HeldClass]:
        """The samples held of each class, in ascending order of classes.

        The groups are classes even in a buffer balanced over tasks, because Avalanche's MIR, ER_AML
        and SCR assume that the groups of any storage policy are classes. ER_AML never ends if the
        buffer holds fewer samples of a class than `train_mb_size`; the same happens with
        Avalanche's own buffers.
        """
        held, rows = self.buffer, defaultdict[int, list[int]](list)
        for row, label in enumerate(held.targets):
            rows[label].append(row)
        return {label: HeldClass(held.subset(rows[label])) for label in sorted(rows)}

    @property
    def buffer_datasets(self) -> list[InMemoryDataset]:
        """The samples held of each class, as a list of datasets."""
        return [group.buffer for group in self.buffer_groups.values()]

    def update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the strategy's current experience, as Avalanche's `ReplayPlugin` expects.

        If the strategy is Avalanche's DER, the model's logits for the new samples are stored too,
        as the last column of `buffer`. They are computed on the samples as stored, whereas DER's
        own buffer computes them without random augmentation.
        """
        n_before = self.n_seen
        self.post_adapt(strategy, strategy.experience)
        if isinstance(strategy, DER):
            new = [slot for slot in range(len(self)) if self._notes.arrival[slot] >= n_before]
            if new:
                x, y, t = self.fetch(np.array(new))
                samples = InMemoryDataset(x, y, t)
                logits = compute_dataset_logits(
                    samples, strategy.model, strategy.train_mb_size, strategy.device
                )
                self._storage.write_logits(new, torch.stack(logits))
                self._snapshot = None

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Add all samples of the experience `exp`, in random order if `depends_on_order`."""
        self._note_heads_of(agent_state)
        self._add_all(exp.dataset, origin_index(exp))

    def update_from_dataset(self, new_data: Any, strategy: Strategy | None = None) -> None:
        """Add all samples of a dataset, in random order if `depends_on_order`.

        Args:
            new_data: A dataset of `(x_i, y_i)` or `(x_i, y_i, t_i)`.
            strategy: The samples count as part of its current experience. If None, they count as a
                task of their own, with a negative number that no experience has.
        """
        if strategy is not None:
            self._note_heads_of(strategy)
            origin = origin_index(strategy.experience)
        else:
            origin = min([0, *self._notes.origin[: len(self)]]) - 1
        self._add_all(new_data, origin)

    def _note_heads_of(self, strategy: Any) -> None:
        model = getattr(strategy, "model", None)
        if isinstance(model, nn.Module):
            self.note_heads(model)

    def _add_all(self, dataset: Any, origin: int) -> None:
        if not len(dataset):
            return
        columns = fetch_all(dataset)
        if self.depends_on_order:
            order = torch.from_numpy(self.rng.permutation(len(dataset)))
            columns = [c.index_select(0, order.to(c.device)) for c in columns]
        x, y, t = columns
        self.add(x, y, t, origin)

    def resize(self, strategy: Strategy, new_size: int) -> None:
        """Change the number of slots; the policy decides which samples stay when it shrinks."""
        kept = self._keep(positive("new_size", new_size))
        self._reallocate(new_size, kept)

    def _reallocate(self, new_size: int, kept: Sequence[int]) -> None:
        """Change the number of slots, and move the sample in slot `kept[i]` to slot i."""
        self._storage = self._storage.reallocated(new_size, kept)
        self._notes = self._notes.reallocated(new_size, kept)
        self.max_size = new_size
        self._refresh()

    def _clear(self) -> None:
        self.n_seen = 0
        self._reallocate(self.max_size, [])

    def _refresh(self) -> None:
        """Rebuild the indexes and drop the snapshot."""
        self._snapshot = None
        kept, self._indexes = [*self._indexes], {}
        for by in kept:
            self.groups(by)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_snapshot": None}

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain data."""
        return {
            "max_size": self.max_size,
            "n_seen": self.n_seen,
            "columns": [column.clone() for column in self._storage.occupied()],
            **asdict(self._notes.reallocated(len(self), range(len(self)))),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self._reallocate(state["max_size"], [])
        self.n_seen = state["n_seen"]
        held = len(state["arrival"])
        if held:
            self._storage.write(range(held), state["columns"])
        notes = SlotNotes(**{field.name: state[field.name] for field in fields(SlotNotes)})
        self._notes = notes.reallocated(self.max_size, range(held))
        self.rng.bit_generator.state = state["rng"]
        self._refresh()


def positive(name: str, value: int) -> int:
    """Return `value`, or raise ValueError if it is below 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, but is {value}")
    return value


def _with_logits(samples: InMemoryDataset, logits: Tensor) -> Any:
    rows = FlatData([[*logits]], discard_elements_not_in_indices=True)
    column = TensorDataAttribute(rows, name="logits", use_in_getitem=True)
    return make_avalanche_dataset(samples, data_attributes=[column])


def _no_samples() -> list[Tensor]:
    labels = torch.zeros(0, dtype=torch.int64)
    return [torch.zeros(0), labels, labels]
