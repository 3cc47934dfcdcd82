"""GEM and modular GEM as a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from pydantic import NonNegativeFloat, PositiveInt

from avalanche_ext.buffers import GroupBy
from avalanche_ext.functional.model.gradients import NamedPartition
from avalanche_ext.functional.projection.projection import Solver
from avalanche_ext.plugins import MGEMPlugin, check_composition


class MGEM(SupervisedTemplate):  # type: ignore[misc]
    """Gradient episodic memory (GEM), by default, and modular GEM; see `MGEMPlugin`.

    Args:
        size_per_task: Samples held of each task, its last ones.
        memory_strength: γ, at least 0, one number or a list with one for each experience.
        partition: Blocks of parameters: "none", "layer", "tensor", a number of equal blocks, or
            patterns of parameter names.
        n_groups: Groups that each task's memory is split into.
        solver: "exact", "quadprog", "pivoting", or "diagonal", the approximation.
        group_by: Whether there is a constraint for each "task" or each "class".
        statistics: Whether to record how often constraints were violated.
        plugins: Further plugins; they act before the projection.
        base_kwargs: Arguments of Avalanche's `SupervisedTemplate`, such as model and optimizer.

    Raises:
        ValueError: If an argument is out of range, or `plugins` cannot go with GEM.
    """

    def __init__(
        self,
        *,
        size_per_task: PositiveInt = 256,
        memory_strength: NonNegativeFloat | list[NonNegativeFloat] = 0.5,
        partition: NamedPartition | PositiveInt | list[str] = "none",
        n_groups: PositiveInt = 1,
        solver: Solver = "exact",
        group_by: GroupBy = "task",
        statistics: bool = False,
        plugins: Sequence[SupervisedPlugin] | None = None,
        **base_kwargs: Any,
    ) -> None:
        mgem = MGEMPlugin(
            size_per_task,
            memory_strength,
            partition=partition,
            n_groups=n_groups,
            solver=solver,
            group_by=group_by,
            statistics=statistics,
        )
        super().__init__(plugins=[*(plugins or ()), mgem], **base_kwargs)
        check_composition(self.plugins)
