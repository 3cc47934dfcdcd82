"""Recent continual-learning methods as Avalanche plugins, with reproducible experiments.

Import subpackages by name (`from avalanche_ext.plugins import DRLPlugin`). This module imports none
of them, so that the command line answers without waiting for torch and avalanche.
"""

__version__ = "0.1.0"
