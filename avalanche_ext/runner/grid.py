"""Run all cells of an experiment that have no result yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.data_root import given_data_root
from avalanche_ext.results.claims import (
    ClaimedError,
    claimed,
    holder_of,
    is_claimed,
    look_again,
)
from avalanche_ext.results.files import CLAIMS, EXPERIMENT, one_line, reason_of
from avalanche_ext.results.record import ResultsError, read_record
from avalanche_ext.results.store import write_experiment
from avalanche_ext.runner.devices import on_devices, visible
from avalanche_ext.runner.engines import Engine, engine
from avalanche_ext.runner.engines.local import FOR_COMPILED, FOR_DIGITS, FOR_WANDB
from avalanche_ext.runner.plan import (
    EVERYTHING,
    Selection,
    names_of,
    readable_results,
    selected,
)
from avalanche_ext.runner.preflight import (
    PreflightError,
    check_builds_by,
    check_devices,
    check_output,
)
from avalanche_ext.runner.progress import NORMAL, Progress
from avalanche_ext.runner.tune import run_tuned
from avalanche_ext.runner.user_files import Contents, read_user_files, write_user_files
from avalanche_ext.runner.worker import Ended, run_claimed

_DIED = "the worker process died, or was killed, perhaps for lack of memory: try fewer --jobs"
_UNSEEN = (
    "a worker has run it, but its result cannot be seen here: --out must be a folder that all of "
    "them share"
)
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_FOR_RECORD = 60.0
_SECONDS_TO_BE_SEEN = 60.0
"""How long a network file system may hide a file that another machine has written."""
_SECONDS_TO_BEGIN = 5.0
"""Time without a finished cell after which the engine is asked whether there are workers."""

CellFuture = Future[tuple[Ended, str]]


@dataclass(frozen=True)
class GridOutcome:
    """The outcome of a grid.

    Attributes:
        directory: The experiment's folder.
        n_done_before: Number of cells that already had a result.
        n_completed: Number of cells that were run and finished.
        n_failed: Number of cells that failed.
        n_elsewhere: Number of cells that other commands have finished meanwhile.
        n_unseen: Number of cells that workers on other machines have run, but whose results cannot
            be seen here.
        waiting: What the remaining cells wait for, if not all could be run yet.
    """

    directory: Path
    n_done_before: int
    n_completed: int
    n_failed: int
    n_elsewhere: int = 0
    n_unseen: int = 0
    waiting: str = ""


def run_experiment(
    experiment: Experiment,
    out: Path,
    jobs: int | None = None,
    data_root: Path | None = None,
    *,
    selection: Selection = EVERYTHING,
    backend: str = "local",
    scheduler: str | None = None,
    devices: Sequence[str] = (),
    verbosity: int = NORMAL,
    meanwhile: Callable[[], None] = lambda: None,
) -> GridOutcome:
    """Run the unfinished cells of `experiment`, each in its own process.

    If the experiment searches for hyper-parameters, the search comes first, in its own folder.

    A cell that fails leaves a failure.json and does not stop the others; it is tried again in the
    next run. A cell is done when a result of exactly its configuration exists. Several commands may
    share a folder: whoever claims a cell first runs it, and the others wait for it. If a worker
    dies, its cell is run once more, alone, after all others.

    Args:
        experiment: What to run.
        out: Folder of all results; the experiment's own is `out` / its name.
        jobs: Number of workers, at least 1; None: one for each of `devices`, otherwise one for each
            GPU that the experiment names, otherwise as many as the cores allow.
        data_root: Folder of the data; see `avalanche_ext.benchmarks`.
        selection: Which cells to run, and which of them to rerun.
        backend: Where the workers run: "local", "dask" or "ray".
        scheduler: Address of a Dask or Ray cluster; None for one on this machine.
        devices: GPUs, `cuda:<n>`, that workers use in turn, overriding the experiment.
        verbosity: What is shown meanwhile: -1 nothing; 0 a bar on a terminal and in Jupyter,
            otherwise a line for each finished cell; 1 both, and when cells begin.
        meanwhile: Called while workers import modules, unless there is no cell to run.

    Raises:
        PreflightError: Before any training, if the experiment cannot be run here.
    """
    out = out.absolute()
    experiment = on_devices(experiment, devices)
    # Read now: a search may take hours before the experiment's folder is written.
    contents = read_user_files(experiment)

    def run(experiment: Experiment, selection: Selection) -> GridOutcome:
        workers = _engine(experiment, backend, jobs, scheduler, devices)
        checks_devices = backend == "local" and not devices
        return _run_cells(
            experiment,
            out,
            data_root,
            selection,
            workers,
            checks_devices,
            verbosity,
            contents,
            meanwhile,
        )

    if experiment.undecided:
        return run_tuned(experiment, out, selection, run, verbosity)
    return run(experiment, selection)


def _engine(
    experiment: Experiment,
    backend: str,
    jobs: int | None,
    scheduler: str | None,
    devices: Sequence[str],
) -> Engine:
    trainings = [method.training for method in experiment.methods.values()]
    on_gpus = {training.device for training in trainings} - {"cpu"}
    return engine(
        backend,
        jobs,
        scheduler,
        visible(devices),
        threads=max(training.threads for training in trainings),
        n_gpus=len({"cuda:0" if device == "cuda" else device for device in on_gpus}),
        unneeded=_unneeded(experiment),
    )


def _unneeded(experiment: Experiment) -> Sequence[str]:
    """Return the modules that workers need not have imported before a cell begins."""
    benchmark = experiment.benchmark
    datasets = (benchmark.name, benchmark.args.get("dataset"), benchmark.args.get("datasets"))
    logs, learns_digits = experiment.wandb.mode != "disabled", "digits" in str(datasets)
    compiles = any(method.training.compile for method in experiment.methods.values())
    return (
        *(() if logs else FOR_WANDB),
        *(() if learns_digits else FOR_DIGITS),
        *(() if compiles else FOR_COMPILED),
    )


def _run_cells(
    experiment: Experiment,
    out: Path,
    data_root: Path | None,
    selection: Selection,
    workers: Engine,
    checks_devices: bool,
    verbosity: int,
    contents: Contents,
    meanwhile: Callable[[], None],
) -> GridOutcome:
    directory = out / experiment.name
    cells = selected(experiment, selection)
    again = names_of(experiment, selection.rerun, "--rerun")
    with readable_results():
        if not selection.repeats_failures:
            cells = [
                cell
                for cell in cells
                if cell.method_name in again or not cell.files(out).is_hopeless()
            ]
        pending = [
            cell for cell in cells if cell.method_name in again or not cell.files(out).is_done()
        ]
    if pending:
        check_output(directory)
        with _as_preflight_error(directory):
            for cell in pending:
                _prepare(cell, out, cell.method_name in again)
        pending = [cell for cell in pending if not cell.files(out).is_done()]
    counts = _Counts()
    if pending:
        with workers:  # Before the checks: a local engine imports torch meanwhile.
            if checks_devices:
                check_devices(pending)
            # Workers on other machines have their own environment.
            root = given_data_root(data_root)
            root = root and root.absolute()
            check_builds_by(workers, pending, root, meanwhile)
            with _as_preflight_error(directory):
                _record(experiment, out, contents)
            with Progress(pending, out, verbosity) as progress:
                counts = _Grid(pending, out, root, workers, progress).run()
    try:
        # Another command may have run other configurations or seeds meanwhile, or a process may
        # have died just after writing a result or while setting one aside.
        for cell in cells:
            if not cell.files(out).is_tidy():
                _prepare(cell, out)
        _record(experiment, out, contents)
    except (OSError, ClaimedError) as error:
        # A finished folder may be read-only; its record then stays as it is.
        written = f"it is being written by {error}"
        reason = reason_of(error) if isinstance(error, OSError) else written
        print(f"note: {directory / EXPERIMENT} is not updated: {reason}", file=sys.stderr)
    return GridOutcome(
        directory,
        n_done_before=len(cells) - len(pending),
        n_completed=counts.completed,
        n_failed=counts.failed,
        n_elsewhere=counts.elsewhere,
        n_unseen=counts.unseen,
    )


@dataclass
class _Counts:
    """Counts of finished cells by outcome; see `GridOutcome`."""

    completed: int = 0
    failed: int = 0
    elsewhere: int = 0
    unseen: int = 0


class _Grid:
    """Submits cells to an engine, and follows them until each is done or has failed."""

    def __init__(
        self,
        cells: Sequence[Cell],
        out: Path,
        data_root: Path | None,
        workers: Engine,
        progress: Progress,
    ) -> None:
        self._cells = cells
        self._out = out
        self._data_root = data_root
        self._engine = workers
        self._progress = progress
        self._failed_before = {cell.directory(out): cell.files(out).failed_at() for cell in cells}
        self._running: dict[CellFuture, Cell] = {}
        self._claimed: dict[Path, Cell] = {}
        """Cells that other commands run, by folder."""
        self._unseen: dict[Path, tuple[Cell, float]] = {}
        """Cells whose results are not visible yet, by folder, and the time until which to look."""
        self._died: list[Cell] = []
        self._retried: set[Path] = set()
        self._counts = _Counts()
        self._is_waiting_said = False
        self._asks_for_workers_at = time.monotonic() + _SECONDS_TO_BEGIN
        self._lack_said = ""

    def run(self) -> _Counts:
        """Run all cells, and count their outcomes."""
        for cell in self._cells:
            self._submit(cell)
        while self._running or self._claimed or self._died or self._unseen:
            if self._died and not self._running:
                self._submit(self._died.pop())
            if not self._running:  # `wait` returns at once if there are no futures.
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            ended, _ = wait(self._running, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
            for future in ended:
                self._end(self._running.pop(future), future)
            if not ended or not self._running:
                self._look_at_claimed()
                self._look_at_unseen()
            self._say_if_nobody_works(has_ended=bool(ended))
        return self._counts

    def _submit(self, cell: Cell) -> None:
        future = self._engine.submit(run_claimed, cell, self._out, self._data_root)
        self._running[future] = cell

    def _end(self, cell: Cell, future: CellFuture) -> None:
        folder = cell.directory(self._out)
        try:
            how, reason = future.result()
        except self._engine.died:
            if folder in self._retried:
                self._record_failure(cell, _DIED)
            else:
                self._retried.add(folder)
                self._died.append(cell)
            return
        except Exception as error:
            self._record_failure(cell, f"the worker failed: {one_line(error)}")
            return
        if how == "claimed":
            self._claimed[folder] = cell
        elif how == "failed":
            self._count_failed(cell, reason)
        elif how == "found":
            self._count_elsewhere(cell)
        elif self._engine.is_here or self._shows_result(cell):
            self._count_completed(cell)
        else:
            self._unseen[folder] = cell, time.monotonic() + _SECONDS_TO_BE_SEEN

    def _shows_result(self, cell: Cell) -> bool:
        """Return whether a cell's result exists and can be read now."""
        try:
            return cell.files(self._out).has_result()
        except OSError:
            return False

    def _count_completed(self, cell: Cell) -> None:
        self._counts.completed += 1
        self._progress.ended(cell)

    def _count_elsewhere(self, cell: Cell) -> None:
        self._counts.elsewhere += 1
        self._progress.ended(cell)

    def _count_failed(self, cell: Cell, error: str) -> None:
        self._counts.failed += 1
        self._progress.ended(cell, error)

    def _record_failure(self, cell: Cell, error: str) -> None:
        """Record the failure of a cell whose worker could not record it, unless it has a result."""
        files = cell.files(self._out)
        try:
            with suppress(OSError), claimed(files.claim):  # The disk may be full.
                look_again(files.folder)
                if files.has_result():
                    self._count_completed(cell)
                    return
                files.write_failure(error)
        except ClaimedError:
            self._claimed[files.folder] = cell
        else:
            self._count_failed(cell, error)

    def _look_at_unseen(self) -> None:
        """Count cells whose results have become visible here, and those that are overdue."""
        for folder, (cell, until) in [*self._unseen.items()]:
            look_again(folder)
            if self._shows_result(cell):
                self._count_completed(cell)
            elif time.monotonic() > until:
                self._counts.unseen += 1
                self._progress.ended(cell, _UNSEEN)
            else:
                continue
            del self._unseen[folder]

    def _say_if_nobody_works(self, *, has_ended: bool) -> None:
        """Print once why no cell can begin, if none has finished for a while."""
        now = time.monotonic()
        if has_ended:
            self._asks_for_workers_at = now + _SECONDS_TO_BEGIN
        elif self._running and now > self._asks_for_workers_at:
            self._asks_for_workers_at = now + _SECONDS_TO_BEGIN
            if (lack := self._engine.lack()) and lack != self._lack_said:
                self._progress.say(f"waiting for workers: {lack}")
            self._lack_said = lack

    def _look_at_claimed(self) -> None:
        """Count the cells that other commands have finished; take over abandoned ones."""
        for folder, cell in [*self._claimed.items()]:
            files = cell.files(self._out)
            has_failed = files.failed_at() not in (None, self._failed_before[folder])
            if self._shows_result(cell):
                self._count_elsewhere(cell)
            elif has_failed:
                self._count_failed(cell, files.failure())
            elif is_claimed(files.claim):
                if not self._running and not self._died and not self._is_waiting_said:
                    self._is_waiting_said = True
                    self._progress.say(
                        f"waiting for cells that other commands run: {cell.method_name} "
                        f"seed {cell.seed} is held by {holder_of(files.claim) or 'another process'}"
                    )
                continue
            else:
                self._submit(cell)
            del self._claimed[folder]


def _prepare(cell: Cell, out: Path, is_rerun: bool = False) -> None:
    """Bring back a result that was set aside, or set it aside for good to rerun the cell."""
    files = cell.files(out)
    if not is_rerun and not files.has_result():
        return
    try:
        with claimed(files.claim):
            files.bring_back()
            if is_rerun:
                files.supersede()
    except ClaimedError:
        return  # The process that runs it has prepared it.


@contextmanager
def _as_preflight_error(folder: Path) -> Iterator[None]:
    """Turn an error of the file system, or from a claim, into one line that names the folder."""
    try:
        yield
    except OSError as error:
        raise PreflightError(f"{folder}: cannot write there ({reason_of(error)})") from error
    except ClaimedError as error:
        raise PreflightError(
            f"{folder / EXPERIMENT} is being written by {error}; end that process or try again"
        ) from error


def _record(experiment: Experiment, out: Path, contents: Contents) -> None:
    """Record what was run, including seeds of the same methods run by other commands."""
    folder = out / experiment.name
    with claimed(folder / CLAIMS / "experiment.lock", _SECONDS_FOR_RECORD):
        others = _other_seeds(experiment, out)
        whole = replace(experiment, seeds=(*experiment.seeds, *others))
        write_user_files(whole, contents, folder)
        write_experiment(folder, whole.yaml(), whole.summary())


def _other_seeds(experiment: Experiment, out: Path) -> list[int]:
    try:
        before = read_record(out / experiment.name)
    except ResultsError:
        return []
    seeds = tuple(seed for seed in before.seeds if seed not in experiment.seeds)
    others = replace(experiment, seeds=seeds)
    known = {name: {seed: of.get(seed) for seed in seeds} for name, of in before.hashes.items()}
    if others.summary()["hashes"] != known:
        return []
    begun = {cell.seed for cell in others.cells() if cell.files(out).has_begun()}
    return sorted(begun)
