"""The file of a checkpoint: its content, and whether a cell can resume from it."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from avalanche_ext import __version__
from avalanche_ext.config import Cell
from avalanche_ext.config.sources import KNOWN_PACKAGES
from avalanche_ext.results.cell import PHASES
from avalanche_ext.results.files import printable
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.machine import is_of_machine
from avalanche_ext.runner.precision import precision_here
from avalanche_ext.state import StateError

_FORMAT = 3
_distributions = cache(packages_distributions)
"""The distributions of each installed package; listing them takes seconds."""


@dataclass(frozen=True)
class Position:
    """The position of a run.

    Attributes:
        n_done: Number of experiences (of the original stream) trained on and evaluated.
        part: Within the next experience, the part being trained on, from 0; None between two.
        start: Number of iterations before the next experience.
        seconds: Seconds by phase.
        n_bytes: Length of events.jsonl.
        digest: SHA-256 of these bytes.
    """

    n_done: int
    part: int | None
    start: int
    seconds: Mapping[str, float]
    n_bytes: int
    digest: str


def versions(cell: Cell) -> dict[str, str]:
    """Return the versions that affect a cell's numbers and the form of its state, by distribution.

    They are those of this package and its dependencies, and of the packages that the cell's
    components come from. For a cell with `precision: bf16`, they include the precision on this
    machine.
    """
    names = {"avalanche-lib", "torch", "torchvision", "numpy", "scikit-learn"}
    # User files belong to no package.
    others = {name for name in packages_of(cell) if name.isidentifier()} - {*KNOWN_PACKAGES}
    if others:
        installed = _distributions()
        names |= {name for package in others for name in installed.get(package, ())}
    found = {"avalanche-ext": __version__, **{name: version(name) for name in sorted(names)}}
    if cell.training.precision != "fp32":
        found["precision"] = precision_here(cell.training)
    return found


def packages_of(cell: Cell) -> set[str]:
    """Return the packages that a cell's components come from."""
    targets = [part.target for each in cell.components for part in (each, *each.parts.values())]
    return {target.partition(":")[0].partition(".")[0] for target in targets}


def checkpoint_bytes(
    cell_hash: str, made_by: Mapping[str, str], position: Position, state: Mapping[str, Any]
) -> memoryview:
    """Return the content of a checkpoint's file.

    Args:
        cell_hash: The hash of the cell's configuration.
        made_by: What `versions` returns for the cell.
        position: Where its run is.
        state: What `state.encoded` has returned.
    """
    content = {
        "format": _FORMAT,
        "hash": cell_hash,
        "versions": {**made_by},
        "progress": vars(position),
        "state": state,
    }
    # If torch wrote the file itself, disk errors would be obscure.
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def read_checkpoint(files: CellFiles, cell: Cell) -> tuple[Position, Mapping[str, Any]] | None:
    """Return the position and state of a cell's checkpoint; None if there is no usable one.

    A damaged checkpoint, or one from another configuration or version, is set aside with a note.

    Raises:
        OSError: If it cannot be read right now, although it may be intact.
        MemoryError: If there is not enough memory for it.
    """
    if not files.checkpoint.is_file():
        return None
    try:
        content = _understood(files.checkpoint, cell)
        try:
            position = _position(content["progress"])
            state: Mapping[str, Any] = content["state"]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise StateError("it does not contain the position of the run") from None
        if files.digest_of_events(position.n_bytes) != position.digest:
            raise StateError("its lines of events.jsonl are missing")
    except StateError as error:
        set_checkpoint_aside(files, error)
        return None
    return position, state


def set_checkpoint_aside(files: CellFiles, why: object) -> None:
    """Set aside a checkpoint that cannot be used, and print a note."""
    aside = files.set_checkpoint_aside()
    print(
        f"{files.checkpoint}: this checkpoint cannot be used, and the run starts over: "
        f"{printable(why)}; it is kept as {aside.name}",
        file=sys.stderr,
        flush=True,
    )


def _position(content: Mapping[str, Any]) -> Position:
    """Return the position that a checkpoint's entry says; raises ValueError and the like if none.

    >>> _position({**dict.fromkeys(("n_done", "part", "start", "n_bytes"), 0), "digest": ""})
    Traceback (most recent call last):
    KeyError: 'seconds'
    """
    counts = [content[key] for key in ("n_done", "start", "n_bytes")]
    counts += [content["part"]] if content["part"] is not None else []
    if not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("not a count")
    seconds = {phase: float(content["seconds"][phase]) for phase in PHASES}
    return Position(**{**content, "seconds": seconds, "digest": str(content["digest"])})


def _understood(path: Path, cell: Cell) -> dict[str, Any]:
    # Read completely first, so that later errors are not disk errors.
    stored = BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(stored) as archive:
            damaged = archive.testzip()
        if damaged:
            raise StateError("it is damaged")
        stored.seek(0)
        content = torch.load(stored, map_location="cpu", weights_only=True)
    except StateError:
        raise
    # torch may raise anything for bytes that it did not write.
    except Exception as error:
        if is_of_machine(error):
            raise
        raise StateError("it is cut off or damaged") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise StateError("it is not a checkpoint of this version")
    if content.get("hash") != cell.hash:
        raise StateError("it is from another configuration")
    made_by = content.get("versions")
    if not isinstance(made_by, dict):
        raise StateError("it does not name its versions")
    for name, now in versions(cell).items():
        then = made_by.get(name)
        if then != now:
            raise StateError(f"it is from {name} {printable(then)}, but this is {now}")
    return content
