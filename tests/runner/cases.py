"""Small experiments that run in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from avalanche_ext.config import Cell, Experiment, load_experiment
from avalanche_ext.results.cell import result_record

SMALL: dict[str, Any] = {
    "name": "small",
    "benchmark": {"name": "split_digits", "n_experiences": 2, "train_size": 60},
    "model": {"name": "mlp", "hidden_sizes": [16]},
    "optimizer": {"name": "SGD", "lr": 0.05},
    "training": {"batch_size": 5},
    "seeds": 2,
    "methods": {
        "naive": {},
        "ber": {"plugins": [{"balanced_replay": {"mem_size": 20}}]},
    },
    "wandb": {"mode": "disabled"},
}

RESULT = result_record(
    is_iid=False,
    R=np.array([[0.9, 0.25], [0.5, 0.75]]),
    untrained=np.array([0.125, 0.25]),
    test_sizes=np.array([10, 30]),
    seconds={"setup": 0.5, "training": 2.0, "evaluation": 1.0, "total": 3.5},
    weights="0a",
    versions={"python": "3"},
    memory={"peak": 1000000, "kept": 0},
)
"""A result that the report can read."""

DIVERGING = {"optimizer": {"lr": 1e30}}


def experiment(folder: Path, **changed: Any) -> Experiment:
    """Load `SMALL` with some of its sections replaced, through a real YAML file."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changed}, sort_keys=False), "utf-8")
    return load_experiment(path)


def cell(folder: Path, method: str = "naive", seed: int = 0, **changed: Any) -> Cell:
    """Return one cell of such an experiment."""
    cells = experiment(folder, seeds=[seed], **changed).cells()
    return next(cell for cell in cells if cell.method_name == method)
