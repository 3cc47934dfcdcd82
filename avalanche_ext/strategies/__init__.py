"""Strategies in Avalanche's style, which bundle plugins."""

from avalanche_ext.strategies.ber import BER
from avalanche_ext.strategies.drl import DRL

__all__ = ["BER", "DRL"]
