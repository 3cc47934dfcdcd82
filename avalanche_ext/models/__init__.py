"""Models that Avalanche lacks, and those of experiment files."""

from avalanche_ext.models.mlp import MLP

__all__ = ["MLP"]
