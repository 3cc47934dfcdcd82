"""Names and places of an experiment's files.

`<out>/<experiment>/record.yaml` lists the runs; experiment.yaml beside it can be run. Each run has
the folder `<out>/<experiment>/<method>/seed-<n>` with its other files; its exhibits are NAME.npz.
`<out>/<experiment>/.claims` shows which runs are in progress.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from avalanche_ext.words import FLOAT, INTEGER

EXPERIMENT = "experiment.yaml"
RECORD = "record.yaml"
CONFIG = "config.yaml"
RESULT = "result.json"
FAILURE = "failure.json"
EVENTS = "events.jsonl"
CHECKPOINT = "checkpoint.pt"
WANDB = "wandb"
CLAIMS = ".claims"
KEY = ".key"
_PARTIAL = ".partial"
_OF_PARTIAL = re.compile(rf"\.(?P<name>.+)\.(?:[0-9]+|[0-9a-f]{{16}}){re.escape(_PARTIAL)}")
_HOUR = 3600.0

TEST, VALIDATION = "test", "validation"
"""The samples that accuracies are measured on: the test stream, or held-out training samples."""

RESULT_FORMAT = 1
"""The format of result.json that this version writes and reads."""


class LaterVersionError(OSError):
    """A file from a later version, which this version can neither read nor replace."""


def cell_folder(experiment: Path, method: str, seed: int) -> Path:
    """Return the folder of one method with one seed; `experiment` is `<out>/<experiment>`."""
    return experiment / method / f"seed-{seed}"


def exhibit_file(folder: Path, name: str) -> Path:
    """Return the file of an exhibit in a run's folder."""
    return folder / f"{name}.npz"


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds anything else; the message is one line.
    """
    return _mapping(path, json.loads, "JSON")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; raises the errors of `read_json`."""
    return _mapping(path, yaml.safe_load, "YAML")


def as_yaml(document: Mapping[str, Any]) -> str:
    """Return a document as text that `read_yaml` and `config.reader` read back unchanged."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be a number in YAML 1.1 or 1.2, such as `1e-3` in the latter.

    Text with unusual line ends gets escapes, which PyYAML's own dumper leaves out.
    """


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
for _tag, _pattern in (("int", INTEGER), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})\Z"), [*"-+.0123456789"]
    )


def reason_of(error: OSError) -> str:
    """Return the reason of a system error, without the file that it names."""
    return error.strerror or str(error)


def printable(text: object) -> str:
    r"""Return text from a file on one line, without control characters for terminals.

    >>> printable("a\x1b[2J\nb")
    'a\\x1b[2J b'
    """
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)


def one_line(error: BaseException) -> str:
    """Return an error's kind and message as one line, safe for terminals."""
    return printable(f"{type(error).__name__}: {error}")


def partial_of(path: Path) -> Path:
    """Return a temporary name beside a file, under which it is written until complete."""
    # Not a process id, which two machines sharing the folder may both have.
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PARTIAL}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which then replaces `path` in one step.

    If the block raises an error, `path` does not change, and the written file is deleted. So are
    partial files of processes that died an hour ago or earlier while writing this file.
    """
    _remove_old_partials(path)
    partial = partial_of(path)
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def flush(path: Path) -> None:
    """Wait until a file would survive a power failure."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def remove_partials(folder: Path, name: str | None = None) -> None:
    """Remove partial files of processes that died while writing a file of this name, or any.

    The caller must know that no other process is writing such a file there.
    """
    for path in partials_in(folder, name):
        path.unlink(missing_ok=True)


def partials_in(folder: Path, name: str | None = None) -> list[Path]:
    """Return the partial files of this name, or of any, in a folder."""
    matches = ((path, _OF_PARTIAL.fullmatch(path.name)) for path in folder.glob(f".*{_PARTIAL}"))
    return [path for path, of in matches if of and name in (None, of["name"])]


def _remove_old_partials(path: Path) -> None:
    for partial in partials_in(path.parent, path.name):
        with suppress(OSError):  # Another process may have removed it.
            if time.time() - partial.stat().st_mtime > _HOUR:
                partial.unlink()


def _mapping(path: Path, parse: Callable[[str], Any], form: str) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not text in UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    # YAML tags also call Python constructors, which may raise anything.
    except (ValueError, TypeError, AttributeError, OverflowError, yaml.YAMLError) as error:
        what = f"{type(error).__name__}: {printable(error)}"
        raise ValueError(f"not {form}: {what}") from None
    if not isinstance(content, dict):
        raise ValueError(f"must hold a mapping, but holds {printable(repr(content)[:60])}")
    return content
