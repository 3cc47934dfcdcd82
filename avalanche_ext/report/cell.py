"""One run as its result file has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.metrics.matrix import summary

Floats = NDArray[np.float64]

PHASES = ("setup", "training", "evaluation", "total")
"""The phases of a run whose seconds are told apart."""

_OF_THE_LAST_ROW = ("ACC", "instance_accuracy")
"""The metrics that do not ask what was learned when."""


@dataclass(frozen=True)
class CellResult:
    """One finished run.

    Attributes:
        R: Accuracies in [0, 1] on each test experience after each training experience, (T, T).
        untrained: The untrained model's accuracies, (T,).
        seconds: Seconds by phase, one for each of PHASES.
        metrics: ACC, instance_accuracy (None for a file from before test sizes were written), BWT,
            FWT, forgetting and learning_accuracy, computed from R here rather than taken from the
            file, so that all rows of a table share one definition.
        is_iid: Whether the samples of all experiences came in random order. Rows of R before the
            last then are not those of experiences, and metrics that need them are None.
    """

    R: Floats
    untrained: Floats
    seconds: Mapping[str, float]
    metrics: Mapping[str, float | None]
    is_iid: bool


def read_cell(folder: Path, expected_hash: str | None) -> CellResult | str | None:
    """Read a run's folder.

    Args:
        folder: The folder, which need not be there.
        expected_hash: The hash of the run that is asked for; None for any.

    Returns:
        The result; the error if the run has failed; None if there is neither.

    Raises:
        ValueError, KeyError, TypeError: If a file of the run cannot be understood.
    """
    for name in ("failure.json", "result.json"):
        path = folder / name
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        if expected_hash is not None and content["hash"] != expected_hash:
            continue
        return str(content["error"]) if name == "failure.json" else _result(content)
    return None


def _result(content: Mapping[str, Any]) -> CellResult:
    if content["format"] != 1:
        raise ValueError(f"format {content['format']}, but this version reads format 1")
    R = np.asarray(content["R"], dtype=np.float64)
    untrained = np.asarray(content["untrained"], dtype=np.float64)
    metrics = summary(R, untrained, content.get("test_sizes"))
    if len(R) != len(untrained):
        raise ValueError(f"R must be square, but has shape {R.shape}")
    is_iid = content.get("iid", False)
    if is_iid:
        metrics = {name: metrics[name] if name in _OF_THE_LAST_ROW else None for name in metrics}
    seconds = {phase: float(content["seconds"][phase]) for phase in PHASES}
    return CellResult(R, untrained, seconds, metrics, is_iid)
