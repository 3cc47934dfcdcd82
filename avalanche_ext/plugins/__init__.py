"""Methods as plugins, to be combined with one another and with Avalanche's own."""

from avalanche_ext.plugins.balanced_replay import BalancedReplayPlugin
from avalanche_ext.plugins.bgd import BGDPlugin
from avalanche_ext.plugins.composition import (
    MethodPlugin,
    Phase,
    check_composition,
    diagnostics,
    exhibits,
    series,
)
from avalanche_ext.plugins.drl import DRLPlugin
from avalanche_ext.plugins.gmed import GMEDPlugin
from avalanche_ext.plugins.hal import HALPlugin
from avalanche_ext.plugins.memory import MemoryPlugin
from avalanche_ext.plugins.mgem import MGEMPlugin
from avalanche_ext.plugins.mir import MIRPlugin
from avalanche_ext.plugins.online_replay import OnlineReplayPlugin
from avalanche_ext.plugins.representations import RepresentationLossPlugin

__all__ = [
    "BGDPlugin",
    "BalancedReplayPlugin",
    "DRLPlugin",
    "GMEDPlugin",
    "HALPlugin",
    "MGEMPlugin",
    "MIRPlugin",
    "MemoryPlugin",
    "MethodPlugin",
    "OnlineReplayPlugin",
    "Phase",
    "RepresentationLossPlugin",
    "check_composition",
    "diagnostics",
    "exhibits",
    "series",
]
