"""Run all cells of an experiment that have no result yet, in parallel workers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.runner.preflight import check_builds, check_devices, check_output
from avalanche_ext.runner.progress import CellBars
from avalanche_ext.runner.store import EXPERIMENT, is_done, write_yaml


@dataclass(frozen=True)
class GridOutcome:
    """How a grid ended.

    Attributes:
        directory: The experiment's folder.
        n_done_before: Cells that had a result already.
        n_completed: Cells that were run to their end.
        n_failed: Cells that failed.
    """

    directory: Path
    n_done_before: int
    n_completed: int
    n_failed: int


def run_experiment(
    experiment: Experiment, out: Path, jobs: int | None = None, data_root: Path | None = None
) -> GridOutcome:
    """Run the cells of `experiment` that are not done, one worker process per core.

    A cell that fails leaves a failure.json and does not stop the others; it is tried again in the
    next run. Cells are done when a result of exactly their configuration exists.

    Args:
        experiment: What to run.
        out: Folder of all results; the experiment's own is `out` / its name.
        jobs: Number of workers, at least 1; one per core if None.
        data_root: Folder of the data; see `avalanche_ext.benchmarks`.

    Raises:
        PreflightError: Before any training, if the experiment cannot be run here.
    """
    check_output(out)
    directory = out / experiment.name
    directory.mkdir(exist_ok=True)
    cells = experiment.cells()
    pending = [cell for cell in cells if not is_done(cell, out)]
    if pending:
        check_devices(pending)
        check_builds(pending, data_root)
    write_yaml(directory / EXPERIMENT, experiment.summary())
    outcomes = _run(pending, out, min(jobs or _n_cores(), max(1, len(pending))), data_root)
    return GridOutcome(
        directory, len(cells) - len(pending), outcomes.count("completed"), outcomes.count("failed")
    )


def _run(cells: list[Cell], out: Path, jobs: int, data_root: Path | None) -> list[str]:
    if not cells:
        return []
    from avalanche_ext.runner.cell import run_cell

    quiet = not sys.stderr.isatty()
    workers = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered")
    outcomes = workers(delayed(run_cell)(cell, out, data_root) for cell in cells)
    with (
        CellBars(cells, out, quiet),
        tqdm(outcomes, "cells", len(cells), unit="cell", disable=quiet, position=0) as bar,
    ):
        return list(bar)


def _n_cores() -> int:
    """Return how many cores this process may use, which on a cluster is not how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
