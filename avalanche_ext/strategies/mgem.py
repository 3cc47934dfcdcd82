"""GEM and modular GEM (mGEM) as a strategy."""

from __future__ import annotations

from avalanche.training.storage_policy import ExemplarsBuffer
from typing_extensions import Unpack

from avalanche_ext.buffers import GroupBy
from avalanche_ext.functional.model.gradients import Partition
from avalanche_ext.functional.projection.projection import Solver
from avalanche_ext.plugins import MGEMPlugin
from avalanche_ext.strategies.base import PluginStrategy, StrategyArguments


class MGEMArguments(StrategyArguments, total=False):
    """Arguments of `MGEM`; see `MGEMPlugin`."""

    size_per_task: int
    memory_strength: float | list[float]
    partition: Partition
    n_groups: int
    solver: Solver
    buffer: ExemplarsBuffer | None
    group_by: GroupBy
    statistics: bool


class MGEM(PluginStrategy):
    """Gradient episodic memory (GEM) and modular GEM: `MGEMPlugin` as a strategy.

    The user's `plugins` act before the projection.
    """

    bundled = (MGEMPlugin,)

    def __init__(self, **arguments: Unpack[MGEMArguments]) -> None:
        super().__init__(**self.bundle(arguments))
