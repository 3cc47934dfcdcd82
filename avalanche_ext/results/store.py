"""Writing a run's files: each is either complete or absent."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avalanche_ext.results.aside import HASH, Aside
from avalanche_ext.results.files import (
    CHECKPOINT,
    CLAIMS,
    CONFIG,
    EVENTS,
    EXPERIMENT,
    FAILURE,
    RECORD,
    RESULT,
    RESULT_FORMAT,
    TEST,
    LaterVersionError,
    as_yaml,
    cell_folder,
    exhibit_file,
    flush,
    partial_of,
    partials_in,
    printable,
    read_json,
    read_yaml,
    remove_partials,
    replacing,
)

if TYPE_CHECKING:
    from avalanche_ext.results.cell import CellResult


@dataclass(frozen=True)
class CellFiles:
    """The files of one cell, a method with a seed.

    Args:
        out: Folder of all results.
        config: The resolved configuration, plain data, written as config.yaml. Its "experiment",
            "method" and "seed" name the folder; its "hash" tells configurations apart.
    """

    out: Path
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The cell's folder, which need not exist."""
        experiment = self.out / self.config["experiment"]
        return cell_folder(experiment, self.config["method"], self.config["seed"])

    def is_done(self) -> bool:
        """Return whether the folder has an intact result of this configuration.

        Raises:
            OSError: If it cannot be read at present, or is a later version's.
        """
        return self._is_result(self.folder / RESULT)

    def has_failed(self) -> bool:
        """Return whether the folder has a failure of this configuration."""
        return _hash_in(self.folder / FAILURE) == self._hash

    def is_hopeless(self) -> bool:
        """Return whether this configuration has no result and has failed by itself.

        Another attempt would most likely fail too, unlike one of a run that the machine ended.

        Raises:
            OSError: If a result cannot be read at present, or is a later version's.
        """
        return self.has_failed() and self._failed_by_itself() and not self.has_result()

    def _failed_by_itself(self) -> bool:
        try:
            return bool(read_json(self.folder / FAILURE)["by_itself"])
        except (OSError, ValueError, KeyError):  # An older file lacks the entry.
            return False

    def has_begun(self) -> bool:
        """Return whether the folder has this configuration's config.yaml."""
        return self.begun_config().get("hash") == self._hash

    def begun_config(self) -> dict[str, Any]:
        """Return the existing config.yaml, of any configuration; empty if there is none."""
        try:
            return read_yaml(self.folder / CONFIG)
        except (OSError, ValueError):
            return {}

    def failed_at(self) -> int | None:
        """Return the time at which this configuration failed, by the file's clock; None if not."""
        path = self.folder / FAILURE
        try:
            return path.stat().st_mtime_ns if _hash_in(path) == self._hash else None
        except OSError:
            return None

    def failure(self) -> str:
        """Return why this configuration failed, in one line."""
        try:
            return printable(read_json(self.folder / FAILURE)["error"])
        except (OSError, ValueError, KeyError):
            return "the reason could not be written"

    def has_result(self) -> bool:
        """Return whether there is a result of this configuration, possibly set aside."""
        return self.is_done() or self._is_set_aside()

    def result(self) -> CellResult | None:
        """Return the result of this configuration, possibly set aside; None if there is none.

        Raises:
            OSError: If it cannot be read at present, or is a later version's.
        """
        from avalanche_ext.results.cell import result_of  # Imported late: it needs numpy.

        for path in (self.folder / RESULT, self._aside.place(RESULT, self._hash)):
            with suppress(FileNotFoundError):  # Another command may be moving it.
                if self._is_result(path):
                    return result_of(read_json(path))
        return None

    def _is_set_aside(self) -> bool:
        return self._is_result(self._aside.place(RESULT, self._hash))

    @property
    def claim(self) -> Path:
        """The lock held by the process that runs this cell; see `results.claims`."""
        folder: Path = self.out / self.config["experiment"] / CLAIMS / self.config["method"]
        return folder / f"seed-{self.config['seed']}.lock"

    def begin(self) -> Path:
        """Prepare the folder for a run, and return it.

        A result of another configuration is set aside with all its files, as NAME-HASH beside each
        file's usual place, so that undoing a change does not cost another run. So are the
        checkpoint and the events of an interrupted run. Files of other attempts without a result
        are removed, except wandb's, which are set aside as wandb-HASH-1, wandb-HASH-2 and so on.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        _write_yaml(self.folder / CONFIG, self.config)
        # After the configuration, which says whose checkpoint it is.
        self._aside.bring_interrupted_back(self._hash)
        return self.folder

    def is_tidy(self) -> bool:
        """Return whether the cell is done, and `bring_back` would have nothing to do."""
        is_aside = self._aside.has(self._hash) or self._aside.half_set(self._hash)
        strays = is_aside or partials_in(self.folder)
        remains = self.checkpoint.exists() or (self.folder / FAILURE).exists()
        return self.is_done() and not strays and not remains

    def bring_back(self) -> None:
        """Restore a result of this configuration that was set aside, with all its files.

        This also cleans up after a process that died while restoring the result, while setting it
        aside, or just after writing it.
        """
        aside = self._aside.place(RESULT, self._hash)
        if self._is_set_aside():
            self._clear()
            (self.folder / EVENTS).unlink(missing_ok=True)
            # Before the result, so that the two never contradict each other.
            _write_yaml(self.folder / CONFIG, self.config)
            os.replace(aside, self.folder / RESULT)
        if self.is_done():
            for label in (self._hash, *self._aside.half_set(self._hash)):
                self._aside.take_back(label)
            self.checkpoint.unlink(missing_ok=True)
            # Its writer did not see the result yet, as on a network file system.
            (self.folder / FAILURE).unlink(missing_ok=True)
            remove_partials(self.folder)

    def supersede(self) -> None:
        """Set this configuration's result aside for good, NAME-HASH-1, so that it is run again.

        An interrupted run also starts over, because its checkpoint may come from older code.
        """
        if self.is_done():
            self._aside.set_result(self._aside.free_label(self._hash))
        if self.checkpoint.exists():
            self._aside.set_checkpoint()

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which marks the cell as done, after all exhibits.

        Args:
            result: What `cell.result_record` returns.
        """
        exhibits = sorted(path.stem for path in self._aside.exhibits())
        split = self.config.get("split", TEST)
        content = {
            "format": RESULT_FORMAT,
            **self._identity,
            "split": split,
            "exhibits": exhibits,
            **result,
        }
        self._flush_events()
        _write_json(self.folder / RESULT, content)
        _sync(self.folder)

    def n_bytes_of_events(self) -> int:
        """Return the length of events.jsonl in bytes; 0 if it does not exist."""
        path = self.folder / EVENTS
        return path.stat().st_size if path.exists() else 0

    def digest_of_events(self, n_bytes: int) -> str:
        """Return the SHA-256 of the first bytes of events.jsonl, or of all if there are fewer."""
        path = self.folder / EVENTS
        content = path.read_bytes() if path.exists() else b""
        return hashlib.sha256(content[:n_bytes]).hexdigest()

    def _flush_events(self) -> None:
        if (self.folder / EVENTS).exists():
            flush(self.folder / EVENTS)

    @property
    def checkpoint(self) -> Path:
        """The state of a running or interrupted run; see `runner.checkpoint`."""
        return self.folder / CHECKPOINT

    def write_checkpoint(self, content: memoryview) -> Path:
        """Write a new checkpoint beside the current one.

        Returns:
            The path, for `finish_checkpoint`.
        """
        partial = partial_of(self.checkpoint)
        try:
            partial.write_bytes(content)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        return partial

    def finish_checkpoint(self, partial: Path) -> None:
        """Replace the current checkpoint by a new one, once it is on the disk with the events.

        Raises:
            OSError: If it cannot be; the present one stays, and the new one is deleted.
        """
        try:
            self._flush_events()
            flush(partial)
            os.replace(partial, self.checkpoint)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        _sync(self.folder)

    def write_failure(self, error: str, trace: str = "", *, by_itself: bool = False) -> None:
        """Record why the cell failed.

        Args:
            error: The reason in one line.
            trace: The traceback.
            by_itself: Whether it would also fail on another machine.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {**self._identity, "error": error, "by_itself": by_itself, "traceback": trace}
        _write_json(self.folder / FAILURE, content)

    def write_exhibit(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write arrays as NAME.npz, with the configuration's hash as "hash"."""
        import numpy as np  # Imported late: `check` needs this class without numpy.

        path = exhibit_file(self.folder, name)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, hash=np.array(self._hash), **arrays)

    def set_checkpoint_aside(self) -> Path:
        """Move an unusable checkpoint to a free name, and return the new path."""
        return self._aside.set_checkpoint()

    def _set_broken_aside(self) -> None:
        """Move an unreadable result to result-broken-N.json, and print a note."""
        path = self.folder / RESULT
        wrong = _wrong_with(path)
        if not wrong:
            return
        aside = self._aside.set_broken_result()
        print(
            f"{path}: this result cannot be read, and the run starts over: {wrong}; it is kept as "
            f"{aside.name}",
            file=sys.stderr,
            flush=True,
        )

    @property
    def _aside(self) -> Aside:
        return Aside(self.folder)

    @property
    def _hash(self) -> str:
        return str(self.config["hash"])

    @property
    def _identity(self) -> dict[str, Any]:
        """Return the entries of result and failure files that identify their run."""
        return {key: self.config[key] for key in ("experiment", "method", "seed", "hash")}

    def _clear(self) -> None:
        """Set the current result aside, if there is one, and remove a failed attempt's files."""
        remove_partials(self.folder)
        self._set_broken_aside()
        other = _hash_in(self.folder / RESULT)
        if other is not None:
            for label in self._aside.half_set(other):
                self._aside.take_back(label)
            # This run's label is reserved for its checkpoint.
            taken = other == self._hash or self._aside.place(RESULT, other).exists()
            self._aside.set_result(self._aside.free_label(other) if taken else other)
        begun = str(self.begun_config().get("hash"))
        begun = begun if HASH.fullmatch(begun) else "unknown"
        if begun not in (self._hash, "unknown"):
            self._aside.set_interrupted(begun)
        self._aside.set_wandb(self._aside.free_label(begun))
        (self.folder / FAILURE).unlink(missing_ok=True)
        for exhibit in self._aside.exhibits():
            exhibit.unlink()

    def _is_result(self, path: Path) -> bool:
        """Return whether a file is a readable result of this configuration."""
        return _hash_in(path) == self._hash and not _wrong_with(path)


def write_experiment(folder: Path, text: str, record: Mapping[str, Any]) -> None:
    """Write experiment.yaml and record.yaml into an experiment's folder.

    The caller must hold a claim, because partial files of other calls are removed.

    Args:
        folder: The experiment's folder.
        text: A YAML that can be run.
        record: The keys of an `ExperimentRecord`.
    """
    for name in (EXPERIMENT, RECORD):
        remove_partials(folder, name)
    with replacing(folder / EXPERIMENT) as partial:
        partial.write_text(text, "utf-8")
    _write_yaml(folder / RECORD, record)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content`; a number that is not finite raises ValueError."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(as_yaml(content), "utf-8")


def _hash_in(path: Path) -> str | None:
    """Return the hash in a file; None if it is damaged or missing."""
    try:
        found = read_json(path).get("hash")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _wrong_with(path: Path) -> str:
    """Return why a result is damaged; empty if it is intact or missing.

    Raises:
        OSError: If it cannot be read at present, or by this version, which says nothing about it.
    """
    from avalanche_ext.results.cell import result_of  # Imported late: it needs numpy.

    try:
        content = read_json(path)
        if not isinstance(content.get("hash"), str):
            return "no entry 'hash'"
        result_of(content)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except LaterVersionError as error:
        raise LaterVersionError(f"{path}: {error}") from None
    except ValueError as error:
        return printable(error)
    return ""


def _sync(folder: Path) -> None:
    """Wait, if the system can, until the names in a folder would survive a power failure."""
    with suppress(OSError):  # Folders cannot be opened on Windows.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
