"""Averaged gradient episodic memory (A-GEM)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from avalanche.models import avalanche_forward
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.buffers import GroupBy, Slots, uniform
from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.model.gradients import FlatLayout, loss_gradients
from avalanche_ext.functional.projection.projection import project_gradient
from avalanche_ext.plugins.core.composition import Columns
from avalanche_ext.plugins.core.model import own_model
from avalanche_ext.plugins.replay.memory import MemoryPlugin, named_buffer
from avalanche_ext.traits import Phase, by
from avalanche_ext.validation import validated

References = Literal["all", "earlier", "other_classes"]
Replay = Literal["never", "first_task", "always"]


class AGEMPlugin(MemoryPlugin):
    """A-GEM: project each gradient so that a step does not increase the loss on stored samples.

    Averaged GEM (Chaudhry, Ranzato, Rohrbach and Elhoseiny 2019, "Efficient lifelong learning with
    A-GEM", equation 11). g is the gradient of the whole loss, penalties of other plugins included;
    r is the gradient of the criterion, a mean over a random batch of references from the memory.
    The step is along

        z = argmin ½‖z − g‖²  subject to  ⟨z, r⟩ ≥ 0,  which is  g − min(0, ⟨g, r⟩ / ⟨r, r⟩) r,

    computed by `functional.project_gradient`. Without references the gradient stays as it is. A
    task is an experience of the original stream, so online streams give the same constraints as
    others. A sample is stored in the first epoch of its experience only.

    The defaults are the paper's. Other settings are those of

    1. GMED's code (Jin et al. 2021): `references="all"`.
    2. The DRL paper's code (Chen, Diethe and Flach 2020): `buffer="ring", replacement=True,
       replay="first_task"`, and on class-incremental streams `references="other_classes"`. On
       others `references="earlier", balance="task", replay="never"`: there, in the first task, the
       code replays the one arriving sample B times, which is a step on that sample.

    With `replay="never"` it can be combined with a plugin that replays; g is then the gradient on
    the replayed batch, and the stream's rows are stored after the step, as in the paper and in
    GMED's code. With the other values it replays itself, so no other plugin can, and the stream's
    rows are stored first, as in the DRL paper's code; see `MemoryPlugin`.

    Deviations:

    1. r is computed after g, not before it. Batch normalisation is in training mode for both, and
       its running statistics see the references after the batch.
    2. The paper's memory holds an equal share of each task. Here it is a reservoir, unless `buffer`
       is "ring" with `balance="task"`, or a `TaskBuffer`.
    3. GMED's code adds 1e-12 to ⟨r, r⟩; `project_gradient` does not need that.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        sample_size: Number of references drawn in each iteration.
        buffer: "reservoir", "ring", or a buffer, ours or Avalanche's. With one of Avalanche's, a
            task is a task label, see `PolicyBuffer`. If plugins share a memory, one of them writes
            it: the one that replays, else the first in the list.
        balance: What a "ring" is balanced over, "class" or "task".
        references: Where references are drawn from: "all" samples, the current task's included;
            those of "earlier" tasks; or, once there is an earlier task, those of "other_classes"
            than the arriving rows have.
        replacement: Whether references are drawn with replacement. If not, and there are fewer than
            `sample_size`, all are taken.
        replay: When to take the step on `batch_size` rows drawn from the whole memory, uniformly
            and with replacement, instead of on the stream's rows: "never", "always", or only in the
            "first_task", which then has no references.
        batch_size: Number of rows replayed in an iteration, if there is replay.
        seed: Seed of the draws of references, and of the memory that is created for a name, which
            draws the replayed rows.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, if plugins wrap one of Avalanche's buffers separately.
        FloatingPointError: While training, if a gradient to be projected is not finite.
    """

    phase = by("replay", {"never": Phase.GRADIENT}, otherwise=Phase.DATA)
    beyond_criterion: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = True
    not_pickled: ClassVar[tuple[str, ...]] = ("_layout", "_references")

    @validated
    def __init__(
        self,
        mem_size: PositiveInt = 300,
        sample_size: PositiveInt = 256,
        *,
        buffer: Literal["reservoir", "ring"] | ExemplarsBuffer = "reservoir",
        balance: GroupBy = "class",
        references: References = "earlier",
        replacement: bool = False,
        replay: Replay = "never",
        batch_size: PositiveInt = 10,
        seed: int = 0,
    ) -> None:
        memory = named_buffer(buffer, mem_size, seed, balance)
        super().__init__(memory, batch_size, "joined" if replay == "never" else "stored")
        self.sample_size = sample_size
        self.references = references
        self.replacement = replacement
        self.replay = replay
        self._rng = np.random.default_rng([4, seed])
        self._layout: FlatLayout | None = None
        self._references: Columns | None = None

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the trained parameters, after other plugins have frozen theirs."""
        super().before_training_epoch(strategy, **kwargs)
        self._layout = FlatLayout(own_model(strategy).named_parameters())

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Replay and store, as `replay` says, and draw the references."""
        super().before_training_iteration(strategy, **kwargs)
        assert self.arrived is not None
        slots = self._reference_slots(self.arrived)
        self._references = self._fetched(strategy, slots) if len(slots) else None

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Project the gradient."""
        if self._references is None:
            return
        assert self._layout is not None
        x, y, t = self._references

        def loss() -> Tensor:
            value: Tensor = criterion_of(strategy)(avalanche_forward(strategy.model, x, t), y)
            return value

        gradient = self._layout.gradient()
        projected = project_gradient(gradient, loss_gradients([loss], self._layout))
        if projected is not gradient:
            self._layout.write_gradient(projected)

    def _draw(self, strategy: Strategy, arrived: Columns) -> Slots:
        if self.replay == "always" or (self.replay == "first_task" and self._is_first_task()):
            return uniform(self.buffer.groups("task"), self.batch_size, self.buffer.rng)
        return np.empty(0, dtype=np.int64)

    def _reference_slots(self, arrived: Columns) -> Slots:
        slots_of = tasks = self.buffer.groups("task")
        earlier = {task: slots for task, slots in tasks.items() if task != self._task}
        if not earlier and (self.references != "all" or self.replay == "first_task"):
            return np.empty(0, dtype=np.int64)
        if self.references == "earlier":
            slots_of = earlier
        elif self.references == "other_classes":
            arriving = {*self.buffer.classes(*arrived[1:])}
            classes = self.buffer.groups("class")
            slots_of = {c: slots for c, slots in classes.items() if c not in arriving}
        if not slots_of:
            return np.empty(0, dtype=np.int64)
        return uniform(slots_of, self.sample_size, self._rng, self.replacement)
