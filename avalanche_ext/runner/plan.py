"""Which cells of an experiment will run, and why."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.results.claims import holder_of, is_claimed
from avalanche_ext.results.copies import SOURCE
from avalanche_ext.results.files import LaterVersionError, printable, reason_of
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.preflight import PreflightError
from avalanche_ext.words import did_you_mean

_MOST_CHANGES = 3
_DEEPEST = 5
"""Number of nested lists shown for a changed value; a YAML's list may contain itself."""
_ARGS = re.compile(r"^(benchmark|model|optimizer)\.args\b")
"""Sections whose arguments stand next to the name in a YAML, but apart in config.yaml."""
_COPY = re.compile(rf"\./{SOURCE}/[0-9a-f]+/(?P<file>[^:]+):.*")
"""A name in a copy of a user's file."""


@dataclass(frozen=True)
class Selection:
    """The part of an experiment that one command runs; by default everything.

    Attributes:
        methods: Names of methods, or of swept methods; empty for all.
        rerun: Names of methods whose finished cells are run again.
        shard: I and N: the I-th, from 1, of N parts of about the same size.
        repeats_failures: Whether cells that have failed by themselves are also run again.
    """

    methods: Collection[str] = ()
    rerun: Collection[str] = ()
    shard: tuple[int, int] = (1, 1)
    repeats_failures: bool = True


EVERYTHING = Selection()


def selected(experiment: Experiment, selection: Selection) -> list[Cell]:
    """Return the experiment's selected cells, done or not.

    They are ordered by seed, and a shard consists of neighbours, so that any finished part of a
    grid compares all methods on the same seeds.

    Raises:
        PreflightError: If it names an unknown method.
    """
    index, n = selection.shard
    methods = names_of(experiment, selection.methods, "--methods")
    cells = experiment.cells()
    cells = cells[(index - 1) * len(cells) // n : index * len(cells) // n]
    return [cell for cell in cells if not methods or cell.method_name in methods]


def names_of(experiment: Experiment, methods: Collection[str], option: str) -> set[str]:
    """Return the methods with these names; the name of a sweep means all its settings.

    Raises:
        PreflightError: If there is no such method; the message begins with `option`.
    """
    settings = {name: [*sweep.values] for name, sweep in experiment.sweeps.items()}
    known = settings | {name: [name] for name in experiment.methods}
    for name in methods:
        if name not in known:
            near = did_you_mean(name, [*known])
            raise PreflightError(f"{option}: unknown method '{name}'{near}")
    return {*chain(*(known[name] for name in methods))}


def explain(experiment: Experiment, out: Path, selection: Selection) -> str:
    """Describe what a run would do: a line for each method and reason, with the seeds.

    Raises:
        PreflightError: If the selection names an unknown method, or the folder cannot be read.
    """
    cells = selected(experiment, selection)
    folder = out / experiment.name
    try:
        os.listdir(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PreflightError(f"--out {folder}: cannot be read ({reason_of(error)})") from error
    rerun = names_of(experiment, selection.rerun, "--rerun")
    reasons: dict[tuple[str, str], list[int]] = {}
    n_to_run = n_elsewhere = 0
    for cell in cells:
        files = cell.files(out)
        with readable_results():
            stays = not selection.repeats_failures and files.is_hopeless()
        if stays and cell.method_name not in rerun:
            continue
        why: str | None
        if is_claimed(files.claim):
            n_elsewhere += 1
            holder = holder_of(files.claim) or "another process"
            why = f"being run by {holder}"
        else:
            with readable_results():
                why = _reason(files, cell.method_name in rerun)
            n_to_run += why is not None
        if why is not None:
            reasons.setdefault((cell.method_name, why), []).append(cell.seed)
    verb = "is" if n_elsewhere == 1 else "are"
    elsewhere = f", {n_elsewhere} {verb} running elsewhere" if n_elsewhere else ""
    lines = [f"{experiment.name}: {n_to_run} of {len(cells)} cells would run{elsewhere}"]
    width = max((len(name) for name, _ in reasons), default=0)
    for (name, why), seeds in reasons.items():
        noun = "seed" if len(seeds) == 1 else "seeds"
        lines.append(f"  {name:{width}}  {noun} {', '.join(map(str, seeds))}: {why}")
    return "\n".join(lines)


@contextmanager
def readable_results() -> Iterator[None]:
    """Raise PreflightError if a result cannot be read, or was written by a later version.

    It is then unknown whether the cell must run.
    """
    try:
        yield
    except LaterVersionError as error:
        raise PreflightError(str(error)) from error
    except OSError as error:
        raise PreflightError(f"{error.filename}: cannot be read ({reason_of(error)})") from error


def _reason(files: CellFiles, is_rerun: bool) -> str | None:
    """Return why a cell that is not running would be run; None if it is done."""
    if files.has_result():
        return "requested by --rerun" if is_rerun else None
    if files.failed_at() is not None:
        return f"failed ({files.failure()})"
    before = files.begun_config()
    if not before:
        return "not run yet"
    changes = [*dict.fromkeys(printable(each) for each in _changes(before, files.config))]
    if not changes or files.has_begun():
        return "started but not finished"
    more = f", and {len(changes) - _MOST_CHANGES} more" if len(changes) > _MOST_CHANGES else ""
    return f"configuration changed ({', '.join(changes[:_MOST_CHANGES])}{more})"


def _changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the values that differ, as `path: before → after`, and the user's files that differ.

    Paths in the benchmark, the model and the optimizer are those of the YAML.
    """
    if path in ("hash", "wandb") or before == after:
        return
    copies = [isinstance(each, str) and _COPY.fullmatch(each) for each in (before, after)]
    if copies[0] and copies[1] and copies[0]["file"] == copies[1]["file"]:
        yield f"{copies[0]['file']} was edited"
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        is_of_files = path.endswith(".files")
        for key in dict.fromkeys([*before, *after]):
            if is_of_files and before.get(key) != after.get(key):
                yield f"{key} was edited"
                continue
            inner = f"{path}.{key}" if path else str(key)
            yield from _changes(before.get(key), after.get(key), inner)
    elif _is_list(before) and _is_list(after) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _changes(*pair, f"{path}[{index}]")
    else:
        in_yaml = _ARGS.sub(r"\1", path)
        yield f"{in_yaml}: {_brief(before)} → {_brief(after)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _brief(value: Any, depth: int = 0) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", "…"))
    if _is_list(value):
        shown = ["…"] if depth == _DEEPEST else [_brief(each, depth + 1) for each in value]
        return f"[{', '.join(shown)}]"
    return "none" if value is None else str(value)
