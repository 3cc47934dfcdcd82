"""The files of an experiment: their names, their formats, writing them and reading them back."""

from avalanche_ext.results.cell import CellResult
from avalanche_ext.results.exhibits import Edits, FisherSpectra, GradientDiversity, RhoSpectra
from avalanche_ext.results.experiment import (
    ExperimentResults,
    MethodResults,
    read_exhibits,
    read_results,
)
from avalanche_ext.results.record import Claim, ExperimentRecord, ResultsError, Sweep
from avalanche_ext.results.store import CellFiles

__all__ = [
    "CellFiles",
    "CellResult",
    "Claim",
    "Edits",
    "ExperimentRecord",
    "ExperimentResults",
    "FisherSpectra",
    "GradientDiversity",
    "MethodResults",
    "ResultsError",
    "RhoSpectra",
    "Sweep",
    "read_exhibits",
    "read_results",
]
