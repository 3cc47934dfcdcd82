"""Run all cells of an experiment that have no result yet, in parallel workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.results.store import write_experiment
from avalanche_ext.runner.preflight import check_builds, check_devices, check_output
from avalanche_ext.runner.progress import CellBars

_DIED = "the worker process died, or was killed, perhaps for lack of memory: try fewer --jobs"


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
    directory = out / experiment.name
    check_output(directory)
    cells = experiment.cells()
    for cell in cells:
        cell.files(out).bring_back()
    pending = [cell for cell in cells if not cell.files(out).is_done()]
    if pending:
        check_devices(pending)
        check_builds(pending, data_root)
    write_experiment(directory, experiment.summary())
    for cell in pending:
        cell.files(out).forget_attempt()
    _run(pending, out, min(jobs or _n_cores(), max(1, len(pending))), data_root)
    n_completed = sum(cell.files(out).is_done() for cell in pending)
    return GridOutcome(
        directory, len(cells) - len(pending), n_completed, len(pending) - n_completed
    )


def _run(cells: list[Cell], out: Path, jobs: int, data_root: Path | None) -> None:
    """Run all `cells`; if a worker dies, go on in new ones."""
    quiet = not sys.stderr.isatty()
    with (
        CellBars(cells, out, quiet),
        tqdm(desc="cells", total=len(cells), unit="cell", disable=quiet, position=0) as bar,
    ):
        waiting = cells
        while waiting:
            try:
                for _ in _outcomes(waiting, out, jobs, data_root):
                    bar.update()
            except TerminatedWorkerError:
                # A dead worker takes the others down. Run alone, the cell that killed it shows.
                left = [cell for cell in waiting if not _is_settled(cell, out)]
                begun = [cell for cell in left if cell.files(out).has_begun()]
                for cell in begun or left:
                    _run_alone(cell, out, data_root)
            else:
                return
            waiting = [cell for cell in waiting if not _is_settled(cell, out)]
            bar.update(len(cells) - len(waiting) - bar.n)


def _run_alone(cell: Cell, out: Path, data_root: Path | None) -> None:
    try:
        # With one job only, joblib would run the cell in this very process.
        list(_outcomes([cell], out, 2, data_root))
    except TerminatedWorkerError:
        cell.files(out).write_failure(_DIED)


def _outcomes(cells: list[Cell], out: Path, jobs: int, data_root: Path | None) -> Iterator[str]:
    from avalanche_ext.runner.cell import run_cell

    workers = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered")
    yield from workers(delayed(run_cell)(cell, out, data_root, os.getpid()) for cell in cells)


def _is_settled(cell: Cell, out: Path) -> bool:
    files = cell.files(out)
    return files.is_done() or files.has_failed()


def _n_cores() -> int:
    """Return how many cores this process may use, which on a cluster is not how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
