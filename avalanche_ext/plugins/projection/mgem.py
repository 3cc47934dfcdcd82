"""Gradient episodic memory (GEM) and modular GEM (mGEM)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import NonNegativeFloat, PositiveInt

from avalanche_ext.buffers import GroupBy, SlotBuffer, TaskBuffer, as_slot_buffer
from avalanche_ext.data import Strategy
from avalanche_ext.functional.model.gradients import FlatLayout, NamedPartition
from avalanche_ext.functional.projection.projection import Solver, project
from avalanche_ext.plugins.core.composition import StoringPlugin, stream_rows
from avalanche_ext.plugins.projection.constraints import Constraints
from avalanche_ext.plugins.projection.references import references_of
from avalanche_ext.plugins.projection.violations import ViolationStatistics
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class MGEMPlugin(StoringPlugin):
    """Project each gradient so that it increases the loss on no earlier task's memory.

    With the defaults this is GEM (Lopez-Paz and Ranzato 2017). Modular GEM (Liu et al. 2024) makes
    the constraints finer: p-mGEM projects each block of parameters by itself (`partition`), d-mGEM
    splits each task's memory into groups with a reference gradient each (`n_groups`), and both may
    be combined or solved approximately (`solver`). See `functional.project_gradient`.

    What is projected is the gradient of the whole loss, penalties of other plugins included;
    reference gradients are those of the criterion alone, its mean over a constraint's samples, in
    training mode. A task is an experience of the original stream, so that online streams have the
    same constraints as others.

    Deviations from GEM's official code:

    1. A sample enters the memory in the first epoch of its experience only.
    2. Reference gradients are computed after the batch's, not before; batch normalisation sees the
       memory's statistics in that order.

    Args:
        size_per_task: Samples held of each task, its last ones; not used if `buffer` is given.
        memory_strength: γ, at least 0: the lower bound of the dual variables, once a constraint is
            violated. A list has one for each experience, the last one for all that follow. In
            d-mGEM each group has γ, so that γ / `n_groups` pushes as hard as γ does in GEM.
        partition: The blocks of parameters: "none", "layer", "tensor", a number of equal blocks, or
            patterns of parameter names, one block each.
        n_groups: Groups that each task's memory is split into, as far as it has samples.
        solver: "exact", by quadprog or block pivoting, whichever is faster; one of the two; or
            "diagonal", the approximation.
        buffer: A memory to use instead, ours or Avalanche's. Of several plugins of a strategy that
            share one, one alone writes it: the one that replays from it, else the first. To share
            one of Avalanche's, give all of them the same `PolicyBuffer` of it; there a task is a
            task label.
        group_by: Whether there is a constraint for each "task" or each "class".
        statistics: Whether to record `statistics`.

    Attributes:
        buffer: The memory.
        statistics: For each experience by its index, if asked for, the share of iterations that
            were `projected`, shares of constraints `violated` and `active`, and the mean `angle`
            of the projection in degrees; see `ViolationStatistics`.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If `memory_strength` or `partition` is empty; when training starts, if
            `partition` does not fit the model, or a memory of Avalanche's has two views.
        FloatingPointError: While training, if a gradient to be projected is not finite.
    """

    phase = Phase.GRADIENT
    not_pickled: ClassVar[tuple[str, ...]] = ("_layout",)

    @validated
    def __init__(
        self,
        size_per_task: PositiveInt = 256,
        memory_strength: NonNegativeFloat | list[NonNegativeFloat] = 0.5,
        *,
        partition: NamedPartition | PositiveInt | list[str] = "none",
        n_groups: PositiveInt = 1,
        solver: Solver = "exact",
        buffer: ExemplarsBuffer | None = None,
        group_by: GroupBy = "task",
        statistics: bool = False,
    ) -> None:
        super().__init__()
        strengths = memory_strength if isinstance(memory_strength, list) else [memory_strength]
        if not strengths or not all(map(math.isfinite, strengths)):
            raise ValueError(
                f"memory_strength={memory_strength}: give a finite number, or a list with one for "
                "each experience"
            )
        if partition == []:
            raise ValueError("partition=[] names no parameters: give patterns, or 'none'")
        self.buffer: SlotBuffer = as_slot_buffer(
            TaskBuffer(size_per_task) if buffer is None else buffer
        )
        self.partition = partition
        self.solver: Solver = solver
        self.statistics: dict[int, ViolationStatistics] = {}
        self._strengths = strengths
        self._counts = statistics
        self._constraints = Constraints(self.buffer, group_by, n_groups)
        self._layout: FlatLayout | None = None

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        FlatLayout(strategy.model.named_parameters(), self.partition)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the experience, and where the model's parameters lie, as it is adapted to it."""
        super().before_training_exp(strategy, **kwargs)
        named = [*strategy.model.named_parameters()]
        if self._layout is None or not self._layout.is_of(named):
            self._layout = FlatLayout(named, self.partition)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Show the memory the stream's rows, in the first epoch of their experience."""
        if strategy.clock.train_exp_epochs == 0 and self._is_writer(strategy):
            self.buffer.add(*stream_rows(strategy, self), self._origin)

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Project the gradient."""
        assert self._layout is not None
        groups = self._constraints.samples(self._origin, strategy.device)
        if not groups:
            return
        gradient = self._layout.gradient()
        references = references_of(strategy, self._layout, groups)
        strength = self._strengths[min(self._origin, len(self._strengths) - 1)]
        blocks = self._layout.blocks
        projection = project(gradient, references, strength, self.solver, blocks=blocks)
        if self._counts:
            counts = self.statistics.setdefault(self._origin, ViolationStatistics())
            counts.count(gradient, projection)
        if projection.gradient is not gradient:
            self._layout.write_gradient(projection.gradient)

    def diagnostics(self) -> dict[str, float]:
        """Return the statistics of the current experience, if they are recorded."""
        counts = self.statistics.get(self._origin)
        numbers = counts.numbers() if counts else {}
        return {f"mgem/{name}": value for name, value in numbers.items()}
