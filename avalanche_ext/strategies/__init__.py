"""Methods as strategies in Avalanche's style: its template with this package's plugins."""

from avalanche_ext.strategies.consolidation import FisherSpectrumEWC, KroneckerEWC, OnlineEWC
from avalanche_ext.strategies.mgem import MGEM
from avalanche_ext.strategies.replay import BER, DRL, GMED

__all__ = ["BER", "DRL", "GMED", "MGEM", "FisherSpectrumEWC", "KroneckerEWC", "OnlineEWC"]
