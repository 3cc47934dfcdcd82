"""Models that Avalanche lacks, and the models that experiment files can name."""

from avalanche_ext.models.mlp import MLP

__all__ = ["MLP"]
