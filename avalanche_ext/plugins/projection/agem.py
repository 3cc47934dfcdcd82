"""Averaged gradient episodic memory (A-GEM)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from avalanche.models import avalanche_forward
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.buffers import GroupBy, Slots, uniform
from avalanche_ext.data import Batch, Strategy, criterion_of
from avalanche_ext.functional.model.gradients import FlatLayout, loss_gradients
from avalanche_ext.functional.projection.projection import project_gradient
from avalanche_ext.plugins.core.composition import Columns, check_views
from avalanche_ext.plugins.replay.memory import MemoryPlugin, named_buffer
from avalanche_ext.traits import Phase, by
from avalanche_ext.validation import validated

References = Literal["all", "earlier", "other_classes"]
Replay = Literal["never", "first_task", "always"]


class AGEMPlugin(MemoryPlugin):
    """Project each gradient so that it does not increase the loss on a draw from the memory.

    A-GEM (Chaudhry, Ranzato, Rohrbach and Elhoseiny 2019, "Efficient lifelong learning with A-GEM",
    equation 11): with r the gradient of the criterion, its mean over a random batch of references,
    the step is along

        z = argmin ½‖z − g‖²  subject to  ⟨z, r⟩ ≥ 0,  which is  g − min(0, ⟨g, r⟩ / ⟨r, r⟩) r,

    as `functional.project_gradient` computes it. g is the gradient of the whole loss, penalties of
    other plugins included. Where there is nothing to draw, the gradient is left as it is. A task is
    an experience of the original stream, so that online streams are learned as others are.

    The defaults are the paper's; other settings are those of

    1. GMED's code (Jin et al. 2021): `references="all"`.
    2. The DRL paper's code (Chen, Diethe and Flach 2020): `buffer="ring", replacement=True,
       replay="first_task"`, and on class-incremental streams `references="other_classes"`, on
       others `references="earlier", balance="task"`.

    With `replay="never"` the stream's rows are stored after the step, as in both former; it goes
    beside a plugin that replays, whose whole batch g is of then. Otherwise they are stored first,
    as in the latter, and it replays itself, see `MemoryPlugin`. Either way a sample is stored in
    the first epoch of its experience only.

    Deviations:

    1. r is computed after g, not before it; batch normalisation, which is in training mode for
       both and whose running statistics count both, sees the references in that order.
    2. The paper's memory holds an equal share of each task; here it is a reservoir, unless a
       `buffer` that does is given: "ring" with `balance="task"`, or a `TaskBuffer`.
    3. GMED's code adds 1e-12 to ⟨r, r⟩. Here nothing is added, as `project_gradient` needs nothing.

    Args:
        mem_size: Number of samples the memory holds; not used if `buffer` is a buffer.
        sample_size: Number of references drawn in each iteration.
        buffer: "reservoir", "ring", or a buffer, ours or Avalanche's; of one of Avalanche's, see
            `PolicyBuffer`, for what a task is. Of several plugins of a strategy that share one,
            one alone writes it: the one that replays from it, else the first.
        balance: What a "ring" is balanced over, "class" or "task".
        references: They are drawn from "all" samples, the current task's included; from those of
            "earlier" tasks; or from those of "other_classes" than the arriving rows have, once
            there is an earlier task.
        replacement: Whether they are drawn with replacement; if not, all are taken if there are
            fewer.
        replay: The step is on the stream's rows, and "never" on replayed ones; or it is "always",
            or in the "first_task", on `batch_size` rows drawn from all that is held, uniformly
            and with replacement. In the latter case there are no references in the first task.
        batch_size: Number of rows replayed in an iteration, if there is replay.
        seed: Seed of the references that are drawn, and of the buffer that is made here, from whose
            generator replayed rows come.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: When training starts, if a memory of Avalanche's has two views.
        FloatingPointError: While training, if a gradient to be projected is not finite.
    """

    phase = by("replay", {"never": Phase.GRADIENT}, otherwise=Phase.DATA)
    beyond_criterion: ClassVar[bool] = True

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
        self._drawn: Batch | None = None

    def __getstate__(self) -> dict[str, Any]:
        # One belongs to the model, the other to an iteration.
        return {**self.__dict__, "_layout": None, "_drawn": None}

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        check_views(strategy, self)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the experience, and where the model's parameters lie, as it is adapted to it."""
        super().before_training_exp(strategy, **kwargs)
        self._layout = FlatLayout(strategy.model.named_parameters())

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Store and replay, if that is asked for, and draw the references."""
        super().before_training_iteration(strategy, **kwargs)
        assert self.arrived is not None
        slots = self._reference_slots(self.arrived)
        self._drawn = None
        if len(slots):
            self._drawn = [column.to(strategy.device) for column in self.buffer.fetch(slots)]

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Project the gradient."""
        if self._drawn is None:
            return
        assert self._layout is not None
        x, y, t = self._drawn

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
        earlier = {task: slots for task, slots in tasks.items() if task != self._origin}
        if not earlier and (self.references != "all" or self.replay == "first_task"):
            return np.empty(0, dtype=np.int64)
        if self.references == "earlier":
            slots_of = earlier
        elif self.references == "other_classes":
            arriving, classes = {*arrived[1].tolist()}, self.buffer.groups("class")
            slots_of = {c: slots for c, slots in classes.items() if c not in arriving}
        if not slots_of:
            return np.empty(0, dtype=np.int64)
        return uniform(slots_of, self.sample_size, self._rng, self.replacement)
