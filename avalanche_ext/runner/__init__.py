"""Build a cell, run it, and run a grid of cells."""

from avalanche_ext.runner.grid import GridOutcome, run_experiment
from avalanche_ext.runner.plan import Selection
from avalanche_ext.runner.preflight import PreflightError
from avalanche_ext.runner.tune import explain

__all__ = ["GridOutcome", "PreflightError", "Selection", "explain", "run_experiment"]
