"""Run one method with one seed."""

from __future__ import annotations

import gc
import platform
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from avalanche.training.supervised import JointTraining
from numpy.typing import NDArray

from avalanche_ext import __version__
from avalanche_ext.config import Cell
from avalanche_ext.data import by_origin
from avalanche_ext.plugins import diagnostics, exhibits, series
from avalanche_ext.results.cell import PHASES, result_record, run_metrics
from avalanche_ext.results.copies import copy_files
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.components import Built, build
from avalanche_ext.runner.recipe import run_options
from avalanche_ext.tracking import JsonLinesSink, Run, Sinks, WandbSink

Outcome = Literal["completed", "failed"]


class Stopwatch:
    """Seconds spent in each phase of a run."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES[:-1], 0.0)
        self._started = perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time spent inside to one phase."""
        started = perf_counter()
        yield
        self.seconds[name] += perf_counter() - started

    def total(self) -> dict[str, float]:
        """Return the seconds of each phase, and the whole time."""
        return {**self.seconds, PHASES[-1]: perf_counter() - self._started}


def run_cell(cell: Cell, out: Path, data_root: Path | None) -> Outcome:
    """Run a cell on its threads and write its files. An error is written too, not raised.

    Args:
        cell: What to run.
        out: Folder of all results.
        data_root: Folder of the data.
    """
    torch.set_num_threads(cell.training.threads)
    # A strategy and its data form cycles, which would keep the worker's last cell in memory.
    gc.collect()
    files = cell.files(out)
    sinks = Sinks(
        [
            JsonLinesSink(),
            WandbSink(cell.wandb.mode, cell.wandb.project, cell.wandb.entity),
        ]
    )
    try:
        directory = files.begin()
        for component in cell.components:
            for each in (component, *component.parts.values()):
                if each.folder:
                    copy_files(each.folder, each.files, directory)
        sinks.start(
            Run(
                experiment=cell.experiment,
                method=cell.method_name,
                seed=cell.seed,
                config=cell.resolved(),
                directory=directory,
                n_experiences=_n_experiences(cell.benchmark.args),
            )
        )
        with _without_avalanche_deprecations():
            result = _train(cell, files, data_root, sinks)
        sinks.finish(result)
        # Last, because a cell with a result has not failed.
        files.write_result(result)
    except Exception as error:
        message = _one_line(error)
        # Where even this cannot be written, the grid still counts the cell as failed.
        with suppress(OSError):
            files.write_failure(message, traceback.format_exc())
        with suppress(Exception):
            sinks.fail(message)
        return "failed"
    return "completed"


def _train(cell: Cell, files: CellFiles, data_root: Path | None, sinks: Sinks) -> dict[str, Any]:
    """Train on each experience in turn, evaluate before and after each; return the result.

    JointTraining trains once, on the samples of all experiences, and is evaluated once: all rows of
    its R are this evaluation's, and the run counts as i.i.d. Numbers that plugins report go to the
    sinks, their exhibits into the cell's folder.
    """
    watch = Stopwatch()
    with watch.phase("setup"):
        built = build(cell, data_root)
    test_stream = built.benchmark.test_stream
    with watch.phase("evaluation"):
        built.strategy.eval(test_stream)
    assert built.matrix.untrained is not None
    sinks.experience(-1, built.matrix.untrained.tolist(), {})
    stream = built.benchmark.train_stream
    parts = {len(test_stream) - 1: stream} if _is_joint(built) else by_origin(stream)
    for index, experience in parts.items():
        start = built.strategy.clock.train_iterations
        with watch.phase("training"):
            built.strategy.train(
                experience,
                eval_streams=[],
                shuffle=cell.training.shuffle,
                **run_options(cell.method),
            )
            _wait_for(built.strategy.device)
        with watch.phase("evaluation"):
            built.strategy.eval(test_stream)
        numbers = {**_metrics(cell, built), **diagnostics(built.strategy.plugins)}
        sinks.experience(index, built.matrix.R[-1].tolist(), numbers)
        recorded = series(built.strategy.plugins)
        if any(recorded.values()):
            sinks.series(index, start, recorded)
    for name, arrays in exhibits(built.strategy.plugins).items():
        files.write_exhibit(name, arrays)
    return _result(cell, built, watch)


def _n_experiences(benchmark: Mapping[str, Any]) -> int | None:
    """The number of experiences that a benchmark's arguments give; None if only the data tell."""
    data_sets = benchmark.get("datasets")
    return len(data_sets) if data_sets else benchmark.get("n_experiences")


def _is_joint(built: Built) -> bool:
    return isinstance(built.strategy, JointTraining)


def _rows(built: Built) -> NDArray[np.float64]:
    """R, (t, T); of joint training, the row of its one evaluation T times, (T, T)."""
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
        R=_rows(built),
        untrained=built.matrix.untrained,
        test_sizes=built.matrix.test_sizes,
        seconds=watch.total(),
        versions={
            "avalanche-ext": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("avalanche-lib", "torch", "numpy")},
        },
    )


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _without_avalanche_deprecations() -> Iterator[None]:
    """Hide Avalanche's deprecation warnings about its own code, which come in every experience."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_others(message: Any, category: Any, filename: str, *place: Any) -> None:
            if category is not DeprecationWarning or "avalanche" not in Path(filename).parts:
                show(message, category, filename, *place)

        warnings.showwarning = show_others  # type: ignore[assignment]
        yield


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
