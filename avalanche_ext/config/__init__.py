"""Turns a YAML into a validated, frozen experiment, without importing torch or avalanche.

`load_experiment` reads a file, and `Experiment.cells` lists the cells to run. `catalogue` holds the
names that a YAML may use. A faulty file raises a `ConfigError` that holds every `Problem`.
"""

from avalanche_ext.config import catalogue
from avalanche_ext.config.errors import ConfigError, Problem
from avalanche_ext.config.json_schema import experiment_json_schema
from avalanche_ext.config.listing import list_catalogue
from avalanche_ext.config.remarks import notes
from avalanche_ext.config.resolve import load_experiment
from avalanche_ext.config.schema import Cell, Component, Experiment, Method
from avalanche_ext.config.sections import Published, Training, Wandb

__all__ = [
    "Cell",
    "Component",
    "ConfigError",
    "Experiment",
    "Method",
    "Problem",
    "Published",
    "Training",
    "Wandb",
    "catalogue",
    "experiment_json_schema",
    "list_catalogue",
    "load_experiment",
    "notes",
]
