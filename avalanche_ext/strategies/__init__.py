"""Strategies in Avalanche's style, which bundle plugins."""

from avalanche_ext.strategies.ber import BER
from avalanche_ext.strategies.drl import DRL
from avalanche_ext.strategies.fisher_spectrum_ewc import FisherSpectrumEWC
from avalanche_ext.strategies.gmed import GMED
from avalanche_ext.strategies.mgem import MGEM
from avalanche_ext.strategies.online_ewc import OnlineEWC

__all__ = ["BER", "DRL", "GMED", "MGEM", "FisherSpectrumEWC", "OnlineEWC"]
