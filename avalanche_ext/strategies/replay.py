"""Replay strategies: BER, DRL and GMED."""

from __future__ import annotations

from typing import Literal

from avalanche.training.storage_policy import ExemplarsBuffer
from typing_extensions import Unpack

from avalanche_ext.buffers import Eviction, GroupBy
from avalanche_ext.functional.representation.losses import Normalisation
from avalanche_ext.plugins import BalancedReplayPlugin, DRLPlugin, GMEDPlugin
from avalanche_ext.plugins.replay.gmed import Edit, Retrieval
from avalanche_ext.plugins.replay.memory import ReplayLoss
from avalanche_ext.strategies.base import PluginStrategy, StrategyArguments


class BERArguments(StrategyArguments, total=False):
    """Arguments of `BER`; see `BalancedReplayPlugin`."""

    mem_size: int
    batch_size_mem: int
    buffer: ExemplarsBuffer | None
    balance: GroupBy
    positive_pairs: bool
    first_task: Literal["uniform", "balanced"]
    eviction: Eviction
    seed: int


class BER(PluginStrategy):
    """Balanced experience replay: `BalancedReplayPlugin` as a strategy."""

    bundled = (BalancedReplayPlugin,)

    def __init__(self, **arguments: Unpack[BERArguments]) -> None:
        super().__init__(**self.bundle(arguments))


class DRLArguments(BERArguments, total=False):
    """Arguments of `DRL`; see `DRLPlugin` and `BalancedReplayPlugin`."""

    alpha: float
    lam: float
    layers: list[str] | None
    normalisation: Normalisation


class DRL(PluginStrategy):
    """Discriminative representation loss on balanced replay: both plugins as a strategy."""

    bundled = (DRLPlugin, BalancedReplayPlugin)

    def __init__(self, **arguments: Unpack[DRLArguments]) -> None:
        super().__init__(**self.bundle(arguments))


class GMEDArguments(StrategyArguments, total=False):
    """Arguments of `GMED`; see `GMEDPlugin`."""

    mem_size: int
    batch_size_mem: int
    stride: float
    reg_strength: float
    retrieval: Retrieval
    edit: Edit
    n_steps: int
    decay: float
    bounds: list[float] | None
    n_candidates: int
    lr: float | None
    loss: ReplayLoss
    buffer: Literal["reservoir", "ring"] | ExemplarsBuffer
    keep_originals: bool
    seed: int


class GMED(PluginStrategy):
    """Gradient-based memory editing on experience replay or MIR: `GMEDPlugin` as a strategy."""

    bundled = (GMEDPlugin,)

    def __init__(self, **arguments: Unpack[GMEDArguments]) -> None:
        super().__init__(**self.bundle(arguments))
