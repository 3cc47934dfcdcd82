"""Gradient episodic memory (GEM) and modular GEM (mGEM)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from avalanche_ext.buffers import GroupBy, SlotBuffer, TaskBuffer, as_slot_buffer
from avalanche_ext.data import Strategy, begins_batch
from avalanche_ext.functional.model.gradients import FlatLayout, NamedPartition
from avalanche_ext.functional.projection.projection import Projection, Solver, project
from avalanche_ext.plugins.core.composition import StoringPlugin, stream_rows
from avalanche_ext.plugins.core.model import own_model
from avalanche_ext.plugins.projection.constraints import Constraints, references_of
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class MGEMPlugin(StoringPlugin):
    """Project each gradient so that the step does not raise the loss on any earlier task's memory.

    With the defaults this is GEM (Lopez-Paz and Ranzato 2017). Modular GEM (Liu et al. 2024) has
    finer constraints: p-mGEM projects each block of parameters separately (`partition`), and d-mGEM
    splits each task's memory into groups, each with its own reference gradient (`n_groups`). Both
    can be combined, and solved approximately (`solver`). See `functional.project_gradient`.

    GEM projects the gradient of the whole loss, which includes the penalties of other plugins, but
    not pulls. A reference gradient is that of the criterion alone, averaged over a constraint's
    samples in training mode. A task is an experience of the original stream, so an online stream
    has the same constraints as a plain one. Beside a replay plugin the memory stores only samples
    from the stream.

    Deviations from GEM's official code:

    1. A sample enters the memory in the first epoch of its experience only.
    2. Reference gradients are computed after the gradient of the batch, not before it, so batch
       normalisation sees the batch first and the memory second.
    3. A task's memory is its last samples. The code writes batches into a ring, drops the part of a
       batch that does not fit before the ring's end, and starts a task where the last one stopped.
       If the size is a multiple of the batch size, both hold the same samples; otherwise they hold
       equally many from the last batches.

    Args:
        size_per_task: Number of samples kept per task, its last ones; not used if `buffer` is
            given.
        memory_strength: γ, at least 0: the lower bound of the dual variables once a constraint is
            violated. A list has one value for each experience; its last value holds for all later
            ones. In d-mGEM γ applies to each group, so γ / `n_groups` has the same effect as γ in
            GEM.
        partition: The blocks of parameters: "none", "layer", "tensor", a number of equal blocks, or
            patterns of parameter names, one block for each.
        n_groups: Number of groups that each task's memory is split into; fewer if it has fewer
            samples.
        solver: "exact" takes the faster of "quadprog" and "pivoting" (block pivoting), which can
            also be chosen by name; "diagonal" is mGEM's approximation.
        buffer: A memory to use instead, ours or Avalanche's. If several plugins share one, only one
            of them writes it: the one that replays from it, else the first. To share a buffer of
            Avalanche's, give all of them the same `PolicyBuffer` of it; a task is then a task
            label.
        group_by: Whether each "task" or each "class" gets a constraint.
        statistics: Whether to record `statistics`.

    Attributes:
        buffer: The memory.
        statistics: `ViolationStatistics` of each experience by its index, if they are recorded.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `memory_strength` or
            `partition` is empty; when training starts, if `partition` does not fit the model, or a
            memory of Avalanche's has two views.
        FloatingPointError: While training, if a gradient to be projected is not finite.
    """

    phase = Phase.GRADIENT
    needs_float32: ClassVar[bool] = True
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
        FlatLayout(own_model(strategy).named_parameters(), self.partition)

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the trained parameters, after other plugins have frozen theirs."""
        super().before_training_epoch(strategy, **kwargs)
        named = [*own_model(strategy).named_parameters()]
        if self._layout is None or not self._layout.is_of(named):
            self._layout = FlatLayout(named, self.partition)

    def before_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """Store the stream's rows, in the first epoch of their experience."""
        is_new = strategy.clock.train_exp_epochs == 0 and begins_batch(strategy)
        if is_new and self._is_writer(strategy):
            self.buffer.add(*stream_rows(strategy, self), self._origin)

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Project the gradient."""
        assert self._layout is not None
        groups = self._constraints.samples(self._task, strategy.device)
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


class ViolationStatistics:
    """Averages over those iterations of one experience that had constraints."""

    def __init__(self) -> None:
        self._n_iterations = 0
        self._n_projected = 0
        self._violated = 0.0
        self._active = 0.0
        self._angle = 0.0

    def count(self, gradient: Tensor, projection: Projection) -> None:
        """Count one iteration, given the gradient before projection and after, (P,)."""
        self._n_iterations += 1
        self._violated += float(projection.violated.double().mean())
        if projection.gradient is gradient:
            return
        self._n_projected += 1
        touched = projection.violated.any(dim=1)
        self._active += float(projection.active[touched].double().mean())
        self._angle += float(_degrees(gradient, projection.gradient))

    def numbers(self) -> dict[str, float]:
        """Return the averages by name; those over projections are missing if there was none.

        `projected` is the share of iterations in which the gradient was projected, and `violated`
        the share of constraints it violated. Over projected iterations, `active` is the share of
        dual variables above their bound in the projected blocks, and `angle` the angle between the
        gradient before and after, in degrees.
        """
        n, m = self._n_iterations, self._n_projected
        numbers = {"projected": m / n, "violated": self._violated / n} if n else {}
        return numbers | ({"active": self._active / m, "angle": self._angle / m} if m else {})


def _degrees(a: Tensor, b: Tensor) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0)
    return torch.rad2deg(torch.arccos(cosine.clamp(-1.0, 1.0)))
