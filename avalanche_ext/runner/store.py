"""The files of a cell: written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from avalanche_ext.config import Cell

EXPERIMENT = "experiment.yaml"
CONFIG = "config.yaml"
RESULT = "result.json"
FAILURE = "failure.json"
RESULT_FORMAT = 1
_SET_ASIDE = "-[0-9a-f]{16}$"


def is_done(cell: Cell, out: Path) -> bool:
    """Whether a result of exactly this cell lies in its folder."""
    return _hash_of(cell.directory(out) / RESULT) == cell.hash


def bring_back(cell: Cell, out: Path) -> None:
    """Make a result of exactly this cell that was set aside the result again, with its exhibits."""
    directory = cell.directory(out)
    set_aside = _aside(directory / RESULT, cell.hash)
    if not is_done(cell, out) and _hash_of(set_aside) == cell.hash:
        _set_aside(directory)
        _remove_exhibits(directory)
        os.replace(set_aside, directory / RESULT)
        (directory / FAILURE).unlink(missing_ok=True)
        write_yaml(directory / CONFIG, cell.resolved())
    # After the result, and also if it is there: the end may have come between them.
    for exhibit in [*directory.glob(f"*-{cell.hash}.npz")]:
        os.replace(exhibit, directory / f"{exhibit.stem.removesuffix(f'-{cell.hash}')}.npz")


def identity(cell: Cell) -> dict[str, Any]:
    """Return the fields by which result and failure files say whose they are."""
    return {
        "experiment": cell.experiment,
        "method": cell.method_name,
        "seed": cell.seed,
        "hash": cell.hash,
    }


def begin(cell: Cell, out: Path) -> Path:
    """Return the cell's folder, ready for a run.

    A result of another configuration is set aside as result-HASH.json, its exhibits as
    NAME-HASH.npz, so that a change that is taken back costs no second run; what an attempt that
    came to no result has left of logs and exhibits goes.
    """
    directory = cell.directory(out)
    directory.mkdir(parents=True, exist_ok=True)
    _set_aside(directory)
    (directory / FAILURE).unlink(missing_ok=True)
    shutil.rmtree(directory / "wandb", ignore_errors=True)
    _remove_exhibits(directory)
    write_yaml(directory / CONFIG, cell.resolved())
    return directory


def forget_attempt(cell: Cell, out: Path) -> None:
    """Remove the traces of an attempt that came to no result."""
    for name in (FAILURE, CONFIG):
        # What is in the way here is reported when the cell is run.
        with suppress(OSError):
            (cell.directory(out) / name).unlink()


def write_failure(cell: Cell, out: Path, error: str, trace: str = "") -> None:
    """Write that a cell has failed, and why, in one line and as a traceback."""
    directory = cell.directory(out)
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / FAILURE, {**identity(cell), "error": error, "traceback": trace})


def write_exhibit(cell: Cell, out: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Write arrays as NAME.npz atomically, beside them the cell's hash as "hash"."""
    with _replacing(cell.directory(out) / f"{name}.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(file, hash=np.array(cell.hash), **arrays)


def has_failed(cell: Cell, out: Path) -> bool:
    """Whether a failure of exactly this cell lies in its folder."""
    return _hash_of(cell.directory(out) / FAILURE) == cell.hash


def has_begun(cell: Cell, out: Path) -> bool:
    """Whether the configuration of exactly this cell lies in its folder."""
    try:
        config = yaml.safe_load((cell.directory(out) / CONFIG).read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(config, dict) and config.get("hash") == cell.hash


def _hash_of(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("hash") if isinstance(content, dict) else None


def _set_aside(directory: Path) -> None:
    old = _hash_of(directory / RESULT)
    if old is not None:
        # The result last: exhibits without one are those of an attempt that has failed.
        for path in (*_exhibits(directory), directory / RESULT):
            os.replace(path, _aside(path, old))


def _aside(path: Path, cell_hash: str) -> Path:
    return path.with_name(f"{path.stem}-{cell_hash}{path.suffix}")


def _exhibits(directory: Path) -> list[Path]:
    """Return the exhibits that are not set aside."""
    return [path for path in directory.glob("*.npz") if not re.search(_SET_ASIDE, path.stem)]


def _remove_exhibits(directory: Path) -> None:
    for exhibit in _exhibits(directory):
        exhibit.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write `content` atomically; a number that is not finite is an error."""
    with _replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def write_yaml(path: Path, content: Any) -> None:
    """Write `content`, plain data, atomically."""
    with _replacing(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to be written, which takes the place of `path` when it is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    yield partial
    os.replace(partial, path)
