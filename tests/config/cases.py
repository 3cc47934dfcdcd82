"""A small experiment, and ways to write it to a file and read it back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_ext.config import ConfigError, Experiment, Problem, load_experiment

EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "benchmark": {"name": "split_digits", "n_experiences": 5},
    "model": {"name": "mlp", "hidden_sizes": [100, 100]},
    "optimizer": {"name": "SGD", "lr": 0.05},
    "training": {"batch_size": 10},
    "seeds": 3,
    "methods": {
        "naive": None,
        "replay": {"strategy": "avalanche:Replay", "args": {"mem_size": 100}},
        "drl": {
            "plugins": [
                {"balanced_replay": {"mem_size": 100}},
                {"drl": {"alpha": 2, "lam": 5e-4}},
            ]
        },
    },
}

LAM = "plugins[1].drl.lam"
PLUGINS = [{"balanced_replay": {"mem_size": 100}}, {"drl": {"alpha": 2}}]


def experiment_with(**sections: Any) -> dict[str, Any]:
    """Return the small experiment with some top-level sections replaced."""
    return {**copy.deepcopy(EXPERIMENT), **sections}


def swept(path: str, values: Any, **section: Any) -> dict[str, Any]:
    """An unswept method and `drl`, swept over one parameter."""
    drl = {"plugins": PLUGINS, **section, "sweep": {path: values}}
    return experiment_with(methods={"naive": None, "drl": drl})


def written(document: dict[str, Any] | str, folder: Path) -> Path:
    """Write an experiment, or the text of one, into a file."""
    path = folder / "experiment.yaml"
    text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return path


def loaded(document: dict[str, Any] | str, folder: Path, *overrides: str) -> Experiment:
    """Load an experiment through a file."""
    return load_experiment(written(document, folder), overrides)


def problems_of(document: dict[str, Any] | str, folder: Path, *overrides: str) -> list[str]:
    """Return the lines with which an experiment is refused."""
    with pytest.raises(ConfigError) as caught:
        loaded(document, folder, *overrides)
    return str(caught.value).splitlines()


def refusal(document: dict[str, Any], folder: Path) -> tuple[list[str], tuple[Problem, ...]]:
    """Lines and problems with which an experiment is refused; some, or none if it is accepted."""
    try:
        loaded(document, folder)
    except ConfigError as error:
        return str(error).splitlines() or ["nothing was said"], error.problems
    return [], ()
