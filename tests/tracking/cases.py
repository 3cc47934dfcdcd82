"""A small run reported to a sink, shared by the tests of all sinks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from avalanche_ext.tracking import Run, Sink

R = [[0.9, 0.1], [0.6, 0.8]]
UNTRAINED = [0.2, 0.3]
RESULT: dict[str, Any] = {
    "format": 1,
    "R": R,
    "untrained": UNTRAINED,
    "metrics": {"ACC": 0.7, "BWT": -0.3, "FWT": -0.2, "forgetting": 0.3, "learning_accuracy": 0.85},
    "seconds": {"setup": 0.5, "training": 2.0, "evaluation": 0.25, "total": 2.75},
}


def run_in(directory: Path, method: str = "drl", seed: int = 3, hash: str = "0123abcd") -> Run:
    return Run(
        experiment="quickstart",
        method=method,
        seed=seed,
        config={
            "benchmark": {"name": "split_digits", "args": {"n_experiences": 2}},
            "plugins": [
                {"name": "balanced_replay", "args": {"mem_size": 50}},
                {"name": "./mine.py:Mine", "args": {"strength": 0.5}},
                {"name": "./other.py:Mine", "args": {"strength": 2.0}},
            ],
            "seed": seed,
            "hash": hash,
        },
        directory=directory / f"seed-{seed}",
        n_experiences=2,
    )


def report_series(sink: Sink) -> None:
    """Two experiences of three and two iterations, after one without a report."""
    sink.series(1, 4, {"norm": [math.nan, 0.5, 0.25], "loss": [2.0, 1.0]})
    sink.series(2, 7, {"norm": [0.125, 0.75]})


def report_experiences(sink: Sink) -> None:
    sink.experience(-1, UNTRAINED, {})
    sink.experience(0, R[0], {"ACC": 0.9, "BWT": None})
    sink.experience(1, R[1], {"ACC": 0.7, "BWT": -0.3})
