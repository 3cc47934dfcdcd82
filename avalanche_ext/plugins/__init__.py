"""Methods as plugins, to be combined with one another and with Avalanche's own."""

from avalanche_ext.plugins.analysis.continual_evaluation import ContinualEvaluationPlugin
from avalanche_ext.plugins.analysis.gradient_diversity import GradientDiversityPlugin
from avalanche_ext.plugins.analysis.rho_spectrum import RhoSpectrumPlugin
from avalanche_ext.plugins.analysis.spectrum_analysis import SpectrumAnalysisPlugin
from avalanche_ext.plugins.bgd import BGDPlugin
from avalanche_ext.plugins.consolidation.base import ConsolidationPlugin
from avalanche_ext.plugins.consolidation.fisher_spectrum_ewc import FisherSpectrumEWCPlugin
from avalanche_ext.plugins.consolidation.kronecker_ewc import KroneckerEWCPlugin
from avalanche_ext.plugins.consolidation.mas import MASPlugin
from avalanche_ext.plugins.consolidation.online_ewc import OnlineEWCPlugin
from avalanche_ext.plugins.consolidation.synaptic_intelligence import SynapticIntelligencePlugin
from avalanche_ext.plugins.core.composition import (
    MethodPlugin,
    ReportingPlugin,
    StoringPlugin,
    check_composition,
    diagnostics,
    exhibits,
    series,
)
from avalanche_ext.plugins.projection.agem import AGEMPlugin
from avalanche_ext.plugins.projection.mgem import MGEMPlugin
from avalanche_ext.plugins.projection.ogd import OGDPlugin
from avalanche_ext.plugins.replay.balanced_replay import BalancedReplayPlugin
from avalanche_ext.plugins.replay.gmed import GMEDPlugin
from avalanche_ext.plugins.replay.gss import GSSPlugin
from avalanche_ext.plugins.replay.hal import HALPlugin
from avalanche_ext.plugins.replay.memory import MemoryPlugin
from avalanche_ext.plugins.replay.mir import MIRPlugin
from avalanche_ext.plugins.replay.online_replay import OnlineReplayPlugin
from avalanche_ext.plugins.representation.base import RepresentationLossPlugin
from avalanche_ext.plugins.representation.drl import DRLPlugin
from avalanche_ext.plugins.representation.metric_loss import MetricLossPlugin
from avalanche_ext.plugins.representation.multi_similarity import MultiSimilarityPlugin
from avalanche_ext.plugins.representation.r_margin import RMarginPlugin
from avalanche_ext.traits import Phase

__all__ = [
    "AGEMPlugin",
    "BGDPlugin",
    "BalancedReplayPlugin",
    "ConsolidationPlugin",
    "ContinualEvaluationPlugin",
    "DRLPlugin",
    "FisherSpectrumEWCPlugin",
    "GMEDPlugin",
    "GSSPlugin",
    "GradientDiversityPlugin",
    "HALPlugin",
    "KroneckerEWCPlugin",
    "MASPlugin",
    "MGEMPlugin",
    "MIRPlugin",
    "MemoryPlugin",
    "MethodPlugin",
    "MetricLossPlugin",
    "MultiSimilarityPlugin",
    "OGDPlugin",
    "OnlineEWCPlugin",
    "OnlineReplayPlugin",
    "Phase",
    "RMarginPlugin",
    "ReportingPlugin",
    "RepresentationLossPlugin",
    "RhoSpectrumPlugin",
    "SpectrumAnalysisPlugin",
    "StoringPlugin",
    "SynapticIntelligencePlugin",
    "check_composition",
    "diagnostics",
    "exhibits",
    "series",
]
