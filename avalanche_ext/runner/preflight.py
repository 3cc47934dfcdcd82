"""Checks of a whole experiment on this machine, before any training starts."""

from __future__ import annotations

import ctypes
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_ext.config import Cell, Component, Experiment
from avalanche_ext.config.tune import tuning_stage
from avalanche_ext.results.files import reason_of

if TYPE_CHECKING:
    from avalanche_ext.runner.engines import Engine


class PreflightError(Exception):
    """The experiment cannot be run here; a line for each problem names the faulty key."""


def check_output(out: Path) -> None:
    """Raise PreflightError unless files can be written below `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise PreflightError(
            f"--out {out}: cannot write there ({reason_of(error)}); name a folder you can write to"
        ) from error


def check_devices(cells: Sequence[Cell]) -> None:
    """Raise PreflightError if a requested GPU does not exist."""
    asked = {cell.training.device for cell in cells} - {"cpu"}
    problems = []
    for device in sorted(asked):
        index = int(device.partition(":")[2] or 0)
        if index >= n_cuda_devices():
            problems.append(
                f"training.device is {device!r}, but this machine has {n_cuda_devices()} usable "
                "CUDA devices; use 'cpu'"
            )
    _raise_all(problems)


def check_builds(cells: Sequence[Cell], data_root: Path | None) -> None:
    """Build one cell of each kind on the CPU, to find wrong arguments and missing data now.

    Cells that differ only in their names and seeds are of one kind. All are built on the benchmark
    of the first seed, since parts that do not fit fail with any seed. A problem of several methods
    is reported once, and so is the reason why steps cannot be compiled.
    """
    from avalanche_ext.runner.components import create_benchmark
    from avalanche_ext.runner.rehearsal import Rehearsal

    with _naming("benchmark"), _noting():
        benchmark = create_benchmark(cells[0], data_root)
    rehearsal = Rehearsal(benchmark)
    keys: dict[str, list[str]] = {}
    uncompiled: dict[str, list[str]] = {}
    for cell in _distinct(cells):
        name = f"methods.{cell.method_name}"
        try:
            uncompiled.setdefault(rehearsal.check(_on_cpu(cell)), []).append(name)
        except Exception as error:
            keys.setdefault(_reason(error), []).append(name)
    _raise_all([f"{', '.join(names)}: {reason}" for reason, names in keys.items()])
    for reason, names in uncompiled.items():
        if reason:
            where = ", ".join(dict.fromkeys(names))
            print(
                f"training.compile: {where}: steps run uncompiled, because {reason}",
                file=sys.stderr,
            )


def check_builds_by(
    workers: Engine,
    cells: Sequence[Cell],
    data_root: Path | None,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run `check_builds`, in a worker if workers have imported more than this process.

    Args:
        workers: The engine, already started.
        cells: The cells.
        data_root: Folder of the data.
        meanwhile: Called while this process waits.
    """
    if not workers.imports_first:
        check_builds(cells, data_root)
        return
    future = workers.submit(_refusal, _distinct(cells), data_root)
    meanwhile()
    try:
        refusal, said = future.result()
    except workers.died as error:
        raise PreflightError(
            "the process that built the benchmark and the methods to check them has died, or was "
            "killed, perhaps for lack of memory"
        ) from error
    print(said, end="", file=sys.stderr, flush=True)
    if refusal:
        raise PreflightError(refusal)


def _refusal(cells: Sequence[Cell], data_root: Path | None) -> tuple[str, str]:
    """Return the error text of `check_builds`, empty if none, and its output on stderr."""
    with redirect_stderr(StringIO()) as said:
        try:
            check_builds(cells, data_root)
        except PreflightError as error:
            return str(error), said.getvalue()
    return "", said.getvalue()


def check_here(experiment: Experiment, data_root: Path | None) -> None:
    """Raise PreflightError unless this machine has the devices and data, and builds all cells."""
    _check_data_root(data_root)
    stages = [replace(experiment, undecided=())]
    if experiment.tuning:
        searches = experiment.tuning.searches
        settings = {name: [*search.settings] for name, search in searches.items()}
        stages.insert(0, tuning_stage(experiment, settings))
    for stage in stages:
        cells = replace(stage, seeds=stage.seeds[:1]).cells()
        check_devices(cells)
        check_builds(cells, data_root)
        _say_where_slow(cells)


def missing_here(experiment: Experiment, data_root: Path | None) -> Iterator[str]:
    """Yield a line for each thing that this machine lacks, as far as visible without torch.

    The experiment may run on another machine.

    Raises:
        PreflightError: If there is no folder `data_root`.
    """
    _check_data_root(data_root)
    devices = {method.training.device for method in experiment.methods.values()} - {"cpu"}
    if devices and not _has_cuda_driver():
        yield f"training.device: is '{min(devices)}', but this machine has no CUDA driver"
    for path, folder in _image_folders(experiment.benchmark):
        whole = (data_root or Path()) / Path(folder).expanduser()
        if (data_root or whole.is_absolute()) and not whole.is_dir():
            yield f"{path}: there is no folder {whole} on this machine"


def _say_where_slow(cells: Sequence[Cell]) -> None:
    if any(cell.training.precision != "fp32" for cell in cells):
        from avalanche_ext.runner.precision import say_where_slow

        say_where_slow(cells)


def _check_data_root(data_root: Path | None) -> None:
    """Raise PreflightError if there is no such folder, since a misspelt one would be created."""
    if data_root and not data_root.is_dir():
        raise PreflightError(f"--data-root {data_root}: no such folder")


def _image_folders(benchmark: Component) -> Iterator[tuple[str, str]]:
    """Yield the image folders that one of our benchmarks names, each with its path."""
    if benchmark.name == "image_folder":
        yield "benchmark.folder", benchmark.args["folder"]
    sources = [("benchmark", {**benchmark.args, "name": benchmark.args.get("dataset")})]
    for index, source in enumerate(benchmark.args.get("datasets") or ()):
        sources.append((f"benchmark.datasets[{index}]", source))
    for path, source in sources:
        folder = (source.get("args") or {}).get("folder")
        if source.get("name") == "image_folder" and isinstance(folder, str):
            yield f"{path}.args.folder", folder


def _raise_all(problems: Sequence[str]) -> None:
    if problems:
        raise PreflightError("\n".join(problems))


def n_cuda_devices() -> int:
    """Return the number of GPUs that CUDA can use here."""
    # Importing torch takes seconds, and is pointless without a driver.
    return _n_cuda_devices() if _has_cuda_driver() else 0


def _on_cpu(cell: Cell) -> Cell:
    """Return a cell that does not use a GPU, which this process would occupy until it ends."""
    training = cell.training.model_copy(update={"device": "cpu"})
    return replace(cell, method=replace(cell.method, training=training))


def _distinct(cells: Sequence[Cell]) -> list[Cell]:
    """Return the first cell of each method, without methods that equal an earlier one."""
    first_of_each: dict[str, Cell] = {}
    for cell in cells:
        first_of_each.setdefault(cell.method_name, cell)
    # Compared by `repr`, since there may be hundreds.
    distinct: dict[str, Cell] = {}
    for cell in first_of_each.values():
        distinct.setdefault(repr(cell.method), cell)
    return [*distinct.values()]


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Turn a constructor's error into one line that names the key."""
    try:
        yield
    except Exception as error:
        raise PreflightError(f"{key}: {_reason(error)}") from error


def notes() -> dict[type[Warning], str]:
    """Return the warnings that are printed once, before the first cell, and how the lines begin."""
    from avalanche_ext.benchmarks.tasks import MissingClassesWarning
    from avalanche_ext.cache import UncachedWarning

    return {UncachedWarning: "note: ", MissingClassesWarning: "note: benchmark."}


@contextmanager
def _noting() -> Iterator[None]:
    """Turn warnings about missing classes, or data that cannot be cached, into one-line notes."""
    begins = notes()
    with warnings.catch_warnings(record=True) as caught:
        for category in begins:
            warnings.simplefilter("always", category)
        yield
    for each in caught:
        if each.category in begins:
            print(f"{begins[each.category]}{each.message}", file=sys.stderr, flush=True)
        else:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _n_cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()
