"""Names and places of an experiment's files.

`<out>/<experiment>/experiment.yaml` says which runs there are. Each run has the folder
`<out>/<experiment>/<method>/seed-<n>` with its other files; its exhibits are NAME.npz.
`<out>/<experiment>/.claims` says which runs are going on.
"""

from __future__ import annotations

from pathlib import Path

EXPERIMENT = "experiment.yaml"
CONFIG = "config.yaml"
RESULT = "result.json"
FAILURE = "failure.json"
EVENTS = "events.jsonl"
CHECKPOINT = "checkpoint.pt"
WANDB = "wandb"
CLAIMS = ".claims"

RESULT_FORMAT = 1
"""The format of result.json that this version writes and reads."""


def cell_folder(experiment: Path, method: str, seed: int) -> Path:
    """Return the folder of one method with one seed; `experiment` is `<out>/<experiment>`."""
    return experiment / method / f"seed-{seed}"


def exhibit_file(folder: Path, name: str) -> Path:
    """Return the file of an exhibit in a run's folder."""
    return folder / f"{name}.npz"
