"""The files of a cell: written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from avalanche_ext.config import Cell

EXPERIMENT = "experiment.yaml"
CONFIG = "config.yaml"
RESULT = "result.json"
FAILURE = "failure.json"
RESULT_FORMAT = 1


def is_done(cell: Cell, out: Path) -> bool:
    """Whether a result of exactly this cell lies in its folder."""
    try:
        result = json.loads((cell.directory(out) / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(result, dict) and result.get("hash") == cell.hash


def begin(cell: Cell, out: Path) -> Path:
    """Return the cell's folder, with its configuration and without an earlier attempt's end."""
    directory = cell.directory(out)
    directory.mkdir(parents=True, exist_ok=True)
    for name in (RESULT, FAILURE):
        (directory / name).unlink(missing_ok=True)
    write_yaml(directory / CONFIG, cell.resolved())
    return directory


def write_json(path: Path, content: Any) -> None:
    """Write `content` atomically; a number that is not finite is an error."""
    _replace(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_yaml(path: Path, content: Any) -> None:
    """Write `content`, plain data, atomically."""
    _replace(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
