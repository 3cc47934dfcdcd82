"""Strategies that keep parameters in place: EWC in three forms."""

from __future__ import annotations

from typing_extensions import Unpack

from avalanche_ext.functional.fisher.diagonal import FisherKind
from avalanche_ext.functional.per_sample.factors import Sharing
from avalanche_ext.plugins import FisherSpectrumEWCPlugin, KroneckerEWCPlugin, OnlineEWCPlugin
from avalanche_ext.plugins.consolidation.base import Normalisation, Update
from avalanche_ext.plugins.consolidation.fisher_spectrum_ewc import Residual
from avalanche_ext.plugins.consolidation.kronecker_ewc import Merge
from avalanche_ext.plugins.consolidation.online_ewc import Importance
from avalanche_ext.strategies.base import PluginStrategy, StrategyArguments


class EWCArguments(StrategyArguments, total=False):
    """Arguments shared by all three."""

    lam: float
    decay: float
    n_samples: int | None
    update: Update
    every: int | None
    normalisation: Normalisation
    seed: int


class OnlineEWCArguments(EWCArguments, total=False):
    """Arguments of `OnlineEWC`; see `OnlineEWCPlugin`."""

    interval: int
    kind: Importance


class OnlineEWC(PluginStrategy):
    """Online EWC, one running diagonal Fisher for all tasks: `OnlineEWCPlugin` as a strategy."""

    bundled = (OnlineEWCPlugin,)

    def __init__(self, **arguments: Unpack[OnlineEWCArguments]) -> None:
        super().__init__(**self.bundle(arguments))


class FisherSpectrumEWCArguments(EWCArguments, total=False):
    """Arguments of `FisherSpectrumEWC`; see `FisherSpectrumEWCPlugin`."""

    interval: int
    kind: FisherKind
    rank: int
    residual: Residual


class FisherSpectrumEWC(PluginStrategy):
    """EWC along the top eigenvectors of the Fisher: `FisherSpectrumEWCPlugin` as a strategy."""

    bundled = (FisherSpectrumEWCPlugin,)

    def __init__(self, **arguments: Unpack[FisherSpectrumEWCArguments]) -> None:
        super().__init__(**self.bundle(arguments))


class KroneckerEWCArguments(EWCArguments, total=False):
    """Arguments of `KroneckerEWC`; see `KroneckerEWCPlugin`."""

    interval: int | None
    kind: FisherKind
    sharing: Sharing
    merge: Merge
    damping: float
    rank: int | None


class KroneckerEWC(PluginStrategy):
    """EWC with one Kronecker product for each layer: `KroneckerEWCPlugin` as a strategy."""

    bundled = (KroneckerEWCPlugin,)

    def __init__(self, **arguments: Unpack[KroneckerEWCArguments]) -> None:
        super().__init__(**self.bundle(arguments))
