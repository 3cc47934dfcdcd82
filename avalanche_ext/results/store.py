"""Writing a run's files: each is whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avalanche_ext.results.files import (
    CONFIG,
    EXPERIMENT,
    FAILURE,
    RESULT,
    RESULT_FORMAT,
    WANDB,
    cell_folder,
    exhibit_file,
)


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
        """The cell's folder, which need not be there."""
        experiment = self.out / self.config["experiment"]
        return cell_folder(experiment, self.config["method"], self.config["seed"])

    def is_done(self) -> bool:
        """Return whether the folder has a result of this configuration."""
        return _hash_in(self.folder / RESULT) == self._hash

    def has_failed(self) -> bool:
        """Return whether the folder has a failure of this configuration."""
        return _hash_in(self.folder / FAILURE) == self._hash

    def has_begun(self) -> bool:
        """Return whether the folder has this configuration's config.yaml."""
        try:
            config = yaml.safe_load((self.folder / CONFIG).read_text("utf-8"))
        except (OSError, yaml.YAMLError):
            return False
        return isinstance(config, dict) and config.get("hash") == self._hash

    def begin(self) -> Path:
        """Prepare the folder for a run, and return it.

        A result of another configuration is set aside as result-HASH.json and its exhibits as
        NAME-HASH.npz, so that a change that is taken back costs no second run. Logs and exhibits
        of an attempt without a result are removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        shutil.rmtree(self.folder / WANDB, ignore_errors=True)
        _write_yaml(self.folder / CONFIG, self.config)
        return self.folder

    def bring_back(self) -> None:
        """Restore a result of this configuration that was set aside, with its exhibits."""
        aside = _set_aside(self.folder / RESULT, self._hash)
        if _hash_in(aside) == self._hash:
            self._clear()
            os.replace(aside, self.folder / RESULT)
            _write_yaml(self.folder / CONFIG, self.config)
        # After the result, and also if it is there: an earlier call may have ended in between.
        for exhibit in [*self.folder.glob(f"*-{self._hash}.npz")]:
            name = exhibit.stem.removesuffix(f"-{self._hash}")
            os.replace(exhibit, exhibit_file(self.folder, name))

    def forget_attempt(self) -> None:
        """Remove the traces of an attempt without a result."""
        for name in (FAILURE, CONFIG):
            # A file or folder in the way here is reported when the cell is run.
            with suppress(OSError):
                (self.folder / name).unlink()

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, which makes the cell done, after all exhibits.

        Args:
            result: What `cell.result_record` returns.
        """
        exhibits = sorted(path.stem for path in self._exhibits())
        content = {"format": RESULT_FORMAT, **self._identity, "exhibits": exhibits, **result}
        _write_json(self.folder / RESULT, content)

    def write_failure(self, error: str, trace: str = "") -> None:
        """Write why the cell has failed, in one line and as a traceback."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {**self._identity, "error": error, "traceback": trace}
        _write_json(self.folder / FAILURE, content)

    def write_exhibit(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Write arrays as NAME.npz, and beside them the configuration's hash as "hash"."""
        import numpy as np  # Not above: `avalanche-ext check` knows this class and needs no numpy.

        path = exhibit_file(self.folder, name)
        with _replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, hash=np.array(self._hash), **arrays)

    @property
    def _hash(self) -> str:
        return str(self.config["hash"])

    @property
    def _identity(self) -> dict[str, Any]:
        """The entries of result and failure files that say which run they belong to."""
        return {key: self.config[key] for key in ("experiment", "method", "seed", "hash")}

    def _exhibits(self) -> list[Path]:
        """The files of exhibits that are not set aside."""
        found = self.folder.glob("*.npz")
        return [path for path in found if not re.search("-[0-9a-f]{16}$", path.stem)]

    def _clear(self) -> None:
        """Set the present result aside, if there is one, and remove a failed attempt's files."""
        other = _hash_in(self.folder / RESULT)
        if other is not None:
            # The result last: exhibits without a result belong to an attempt that has failed.
            for path in (*self._exhibits(), self.folder / RESULT):
                os.replace(path, _set_aside(path, other))
        (self.folder / FAILURE).unlink(missing_ok=True)
        for exhibit in self._exhibits():
            exhibit.unlink()


def write_experiment(folder: Path, content: Mapping[str, Any]) -> None:
    """Write experiment.yaml, with the keys of an `ExperimentRecord`, into its folder."""
    _write_yaml(folder / EXPERIMENT, content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content`; a number that is not finite raises ValueError."""
    with _replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    with _replacing(path) as partial:
        partial.write_text(text, "utf-8")


def _set_aside(path: Path, cell_hash: str) -> Path:
    """Return where a file of another configuration is kept, NAME-HASH beside its usual place."""
    return path.with_name(f"{path.stem}-{cell_hash}{path.suffix}")


def _hash_in(path: Path) -> str | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content.get("hash") if isinstance(content, dict) else None


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file to write, which then replaces `path` in one step."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    yield partial
    os.replace(partial, path)
