"""Names and places of an experiment's files.

`<out>/<experiment>/experiment.yaml` says which runs there are. Each run has the folder
`<out>/<experiment>/<method>/seed-<n>` with its other files; its exhibits are NAME.npz.
"""

from __future__ import annotations

import re
from pathlib import Path

EXPERIMENT = "experiment.yaml"
CONFIG = "config.yaml"
RESULT = "result.json"
FAILURE = "failure.json"
EVENTS = "events.jsonl"
WANDB = "wandb"
EXHIBIT_SUFFIX = ".npz"

RESULT_FORMAT = 1
"""The format of result.json that this version writes and reads."""


def cell_folder(experiment: Path, method: str, seed: int) -> Path:
    """Return the folder of one method with one seed.

    Args:
        experiment: The experiment's folder, `<out>/<experiment>`.
        method: The method's name.
        seed: The seed.
    """
    return experiment / method / f"seed-{seed}"


def exhibit_file(folder: Path, name: str) -> Path:
    """Return the file of an exhibit in a run's folder."""
    return folder / f"{name}{EXHIBIT_SUFFIX}"


def exhibits_in(folder: Path) -> list[Path]:
    """Return a run's files of exhibits, without those set aside."""
    found = folder.glob(f"*{EXHIBIT_SUFFIX}")
    return [path for path in found if not re.search("-[0-9a-f]{16}$", path.stem)]


def exhibits_set_aside(folder: Path, cell_hash: str) -> dict[Path, Path]:
    """Return where each exhibit of a configuration lies that was set aside, by its usual place."""
    ending = f"-{cell_hash}"
    return {
        exhibit_file(folder, path.stem.removesuffix(ending)): path
        for path in folder.glob(f"*{ending}{EXHIBIT_SUFFIX}")
    }


def set_aside(path: Path, cell_hash: str) -> Path:
    """Return where a file of another configuration is kept: NAME-HASH beside its usual place."""
    return path.with_name(f"{path.stem}-{cell_hash}{path.suffix}")
