"""Methods as plugins, to be combined with one another and with Avalanche's own."""

from avalanche_ext.plugins.balanced_replay import BalancedReplayPlugin
from avalanche_ext.plugins.bgd import BGDPlugin
from avalanche_ext.plugins.composition import (
    MethodPlugin,
    Phase,
    ReportingPlugin,
    check_composition,
    diagnostics,
    exhibits,
    series,
)
from avalanche_ext.plugins.consolidation import ConsolidationPlugin
from avalanche_ext.plugins.drl import DRLPlugin
from avalanche_ext.plugins.fisher_spectrum_ewc import FisherSpectrumEWCPlugin
from avalanche_ext.plugins.gmed import GMEDPlugin
from avalanche_ext.plugins.hal import HALPlugin
from avalanche_ext.plugins.mas import MASPlugin
from avalanche_ext.plugins.memory import MemoryPlugin
from avalanche_ext.plugins.mgem import MGEMPlugin
from avalanche_ext.plugins.mir import MIRPlugin
from avalanche_ext.plugins.online_ewc import OnlineEWCPlugin
from avalanche_ext.plugins.online_replay import OnlineReplayPlugin
from avalanche_ext.plugins.representations import RepresentationLossPlugin
from avalanche_ext.plugins.spectrum_analysis import SpectrumAnalysisPlugin
from avalanche_ext.plugins.synaptic_intelligence import SynapticIntelligencePlugin

__all__ = [
    "BGDPlugin",
    "BalancedReplayPlugin",
    "ConsolidationPlugin",
    "DRLPlugin",
    "FisherSpectrumEWCPlugin",
    "GMEDPlugin",
    "HALPlugin",
    "MASPlugin",
    "MGEMPlugin",
    "MIRPlugin",
    "MemoryPlugin",
    "MethodPlugin",
    "OnlineEWCPlugin",
    "OnlineReplayPlugin",
    "Phase",
    "ReportingPlugin",
    "RepresentationLossPlugin",
    "SpectrumAnalysisPlugin",
    "SynapticIntelligencePlugin",
    "check_composition",
    "diagnostics",
    "exhibits",
    "series",
]
