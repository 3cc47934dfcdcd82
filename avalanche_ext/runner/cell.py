"""Run one method with one seed."""

from __future__ import annotations

import gc
import hashlib
import platform
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from avalanche.training.supervised import JointTraining
from numpy.typing import NDArray
from torch import nn

from avalanche_ext.config import Cell
from avalanche_ext.data import Strategy, by_origin
from avalanche_ext.plugins import diagnostics, exhibits, series
from avalanche_ext.results.cell import PHASES, read_events, result_record, run_metrics
from avalanche_ext.results.copies import reading
from avalanche_ext.results.files import one_line, printable
from avalanche_ext.results.key import key_of
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner import memory
from avalanche_ext.runner.checkpoint import Checkpoints
from avalanche_ext.runner.checkpoint_file import (
    Position,
    read_checkpoint,
    set_checkpoint_aside,
    versions,
)
from avalanche_ext.runner.components import Built, build
from avalanche_ext.runner.imports import forget
from avalanche_ext.runner.machine import is_of_machine
from avalanche_ext.runner.middle import go_on
from avalanche_ext.runner.sigterm import ENDED_BY_SIGTERM
from avalanche_ext.runner.user_files import copied
from avalanche_ext.state import StateError
from avalanche_ext.strategies.compiled import share_compiled
from avalanche_ext.tracking import JsonLinesSink, Run, Sinks, WandbSink

Outcome = Literal["completed", "failed"]


class Stopwatch:
    """Seconds spent in each phase of a run, including by earlier processes of a resumed run."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._running = {PHASES[-1]: perf_counter()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time spent inside as one phase, and not as the surrounding phase."""
        around = [each for each in self._running if each != PHASES[-1]]
        for each in around:
            self._stop(each)
        self._running[name] = perf_counter()
        yield
        self._stop(name)
        self._running |= dict.fromkeys(around, perf_counter())

    def _stop(self, name: str) -> None:
        self._seconds[name] += perf_counter() - self._running.pop(name)

    def total(self) -> dict[str, float]:
        """Return the seconds of each phase so far, and the whole time."""
        now = perf_counter()
        running = {name: now - started for name, started in self._running.items()}
        return {name: each + running.get(name, 0.0) for name, each in self._seconds.items()}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of the processes before this one."""
        for name, each in seconds.items():
            self._seconds[name] += each


@dataclass
class _Begun:
    """A run with its objects, either new or restored from a checkpoint.

    Attributes:
        built: The objects.
        checkpoints: Takes its checkpoints.
        watch: Counts its seconds.
        position: The position of its checkpoint; None for a run from the start.
    """

    built: Built
    checkpoints: Checkpoints
    watch: Stopwatch
    position: Position | None = None


def run_cell(cell: Cell, out: Path, data_root: Path | None) -> Outcome:
    """Run a cell on its threads and write its files. An error is written too, not raised.

    Only an error that cannot be written, such as with a full disk, is raised.

    Args:
        cell: What to run.
        out: Folder of all results.
        data_root: Folder of the data.
    """
    torch.set_num_threads(cell.training.threads)
    # The last cell's strategy and data form reference cycles that keep them in memory.
    gc.collect()
    files = cell.files(out)
    resumed: _Begun | None = None
    wandb = WandbSink(cell.wandb.mode, cell.wandb.project, cell.wandb.entity, cell.wandb.tags)
    sinks = Sinks([JsonLinesSink(), wandb])
    try:
        directory = files.begin()
        with reading(copied(cell, out, directory)), _without_avalanche_deprecations():
            resumed = _resumed(cell, files, data_root)
            kept = resumed.position.n_bytes if resumed and resumed.position else None
            sinks.start(
                Run(
                    experiment=cell.experiment,
                    method=cell.method_name,
                    seed=cell.seed,
                    config=cell.resolved(),
                    directory=directory,
                    n_experiences=_n_experiences(cell),
                    key=key_of(out / cell.experiment) if cell.wandb.mode != "disabled" else "",
                    n_bytes_kept=kept,
                )
            )
            if resumed:
                _repeat_events(directory, wandb)
            with _doubting(resumed, files):
                result = _train(cell, files, resumed or _begun(cell, files, data_root), sinks)
        sinks.finish(result)
        # Written last: a cell with a result counts as done.
        files.write_result(result)
        with suppress(OSError):
            files.checkpoint.unlink(missing_ok=True)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == ENDED_BY_SIGTERM:
            raise
        message = _message(error)
        with suppress(Exception):
            sinks.fail(message)
        try:
            # A resumed run might succeed if it started anew, without its checkpoint.
            by_itself = resumed is None and not is_of_machine(error)
            files.write_failure(message, traceback.format_exc(), by_itself=by_itself)
        except OSError:
            raise error from None
        return "failed"
    return "completed"


def _begun(cell: Cell, files: CellFiles, data_root: Path | None) -> _Begun:
    watch = Stopwatch()
    with watch.phase("setup"):
        forget()
        built = build(cell, data_root)
    return _Begun(built, Checkpoints(cell, files, built), watch)


def _resumed(cell: Cell, files: CellFiles, data_root: Path | None) -> _Begun | None:
    """Return the run restored from its checkpoint; None if there is no usable one."""
    found = read_checkpoint(files, cell)
    if found is None:
        return None
    run = _begun(cell, files, data_root)
    run.position, state = found
    try:
        run.checkpoints.restore(run.position, state)
    except StateError as error:
        set_checkpoint_aside(files, error)
        return None
    run.watch.add(run.position.seconds)
    return run


@contextmanager
def _doubting(resumed: _Begun | None, files: CellFiles) -> Iterator[None]:
    """Set aside a checkpoint after which training fails, since it might fail again and again."""
    try:
        yield
    except Exception as error:
        if resumed and not resumed.checkpoints.has_saved and not is_of_machine(error):
            with suppress(OSError):
                reason = f"the run failed after resuming from it, {_message(error)}"
                set_checkpoint_aside(files, reason)
        raise


def _repeat_events(directory: Path, wandb: WandbSink) -> None:
    """Repeat the earlier events of a resumed cell in its new wandb run."""
    for event in read_events(directory, since=0.0):
        kind = event.pop("event")
        del event["time"]
        if kind == "experience":
            wandb.experience(event.pop("experience"), event.pop("accuracies"), event)
        elif kind == "series":
            numbers = {
                name: [nan if each is None else each for each in values]
                for name, values in event["series"].items()
            }
            wandb.series(event["index"], event["start"], numbers)


def _train(cell: Cell, files: CellFiles, run: _Begun, sinks: Sinks) -> dict[str, Any]:
    """Train on each experience in turn, evaluate before and after each; return the result.

    JointTraining trains once, on the samples of all experiences, and is evaluated once: all rows of
    its R come from this evaluation, and the run counts as i.i.d. Plugins' numbers go to the sinks,
    and their exhibits into the cell's folder.
    """
    built, watch, position = run.built, run.watch, run.position
    test_stream = built.benchmark.test_stream
    memory.begin_peak(built.strategy.device)
    if built.inside:
        built.inside.timed = partial(watch.phase, "evaluation")
    with run.checkpoints.heeding_sigterm():
        if position is None:
            with watch.phase("evaluation"):
                built.strategy.eval(test_stream)
            assert built.matrix.untrained is not None
            sinks.experience(-1, built.matrix.untrained.tolist(), {})
        stream = built.benchmark.train_stream
        parts = {len(test_stream) - 1: stream} if _is_joint(built) else by_origin(stream)
        n_done = position.n_done if position else 0
        for n, (index, experience) in [*enumerate(parts.items())][n_done:]:
            part = position.part if position and n == n_done else None
            start = built.strategy.clock.train_iterations
            if position and part is not None:
                start = position.start

            def now(part: int | None, n_done: int = n, start: int = start) -> Position:
                n_bytes = files.n_bytes_of_events()
                digest = files.digest_of_events(n_bytes)
                return Position(n_done, part, start, watch.total(), n_bytes, digest)

            with watch.phase("training"), run.checkpoints.within(now):
                _train_on(cell, built, experience, part)
            with watch.phase("evaluation"):
                built.strategy.eval(test_stream)
            numbers = {**_metrics(cell, built), **diagnostics(built.strategy.plugins)}
            sinks.experience(index, built.matrix.R[-1].tolist(), numbers)
            recorded = series(built.strategy.plugins)
            if any(recorded.values()):
                sinks.series(index, start, recorded)
            run.checkpoints.save(now(None, n + 1))
    for name, arrays in exhibits(built.strategy.plugins).items():
        files.write_exhibit(name, arrays)
    return _result(cell, built, watch)


def _train_on(cell: Cell, built: Built, experience: Sequence[Any], part: int | None) -> None:
    """Train on an experience, or resume in one of its parts and train to its end."""
    options = {"shuffle": cell.training.shuffle}
    if part is None:
        built.strategy.train(experience, eval_streams=[], **options)
    else:
        go_on(built.strategy, experience, part, **options)
    _wait_for(built.strategy.device)


def _n_experiences(cell: Cell) -> int | None:
    """Return the number of experiences in the configuration; None if it depends on the data."""
    if cell.validation:
        return cell.validation.experiences
    benchmark = cell.benchmark.args
    data_sets = benchmark.get("datasets")
    return len(data_sets) if data_sets else benchmark.get("n_experiences")


def _is_joint(built: Built) -> bool:
    return isinstance(built.strategy, JointTraining)


def _rows(built: Built) -> NDArray[np.float64]:
    """Return R, (t, T); for joint training, the row of its one evaluation T times, (T, T)."""
    R = built.matrix.R
    return np.repeat(R, R.shape[1], axis=0) if _is_joint(built) else R


def _metrics(cell: Cell, built: Built) -> dict[str, float | None]:
    assert built.matrix.untrained is not None
    return run_metrics(
        _rows(built), built.matrix.untrained, built.matrix.test_sizes, _is_iid(cell, built)
    )


def _is_iid(cell: Cell, built: Built) -> bool:
    return cell.training.iid or _is_joint(built)


def _result(cell: Cell, built: Built, watch: Stopwatch) -> dict[str, Any]:
    assert built.matrix.untrained is not None
    return result_record(
        is_iid=_is_iid(cell, built),
        curves=built.inside.curves if built.inside else None,
        beta=built.inside.beta if built.inside else None,
        R=_rows(built),
        untrained=built.matrix.untrained,
        test_sizes=built.matrix.test_sizes,
        seconds=watch.total(),
        weights=_digest(built.strategy.model),
        versions={"python": platform.python_version(), **versions(cell)},
        memory=_memory(built.strategy),
        compiled=share_compiled(built.strategy) if cell.training.compile else None,
    )


def _memory(strategy: Strategy) -> dict[str, int]:
    found = {"peak": memory.peak(strategy.device), "kept": memory.kept(strategy)}
    return {kind: n for kind, n in found.items() if n is not None}


def _digest(model: nn.Module) -> str:
    """Return a hash of a model's weights and buffers, of their names and every bit."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _without_avalanche_deprecations() -> Iterator[None]:
    """Hide Avalanche's deprecation warnings about its own code, shown in every experience."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_others(message: Any, category: Any, filename: str, *place: Any) -> None:
            if category is not DeprecationWarning or "avalanche" not in Path(filename).parts:
                show(message, category, filename, *place)

        warnings.showwarning = show_others  # type: ignore[assignment]
        yield


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"its code called sys.exit({'' if error.code is None else printable(error.code)})"
    return one_line(error)
