"""Models missing from Avalanche, and the models that experiment files can name."""

from avalanche_ext.models.mlp import MLP
from avalanche_ext.models.supsup import SupSup

__all__ = ["MLP", "SupSup"]
