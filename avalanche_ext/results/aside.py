"""Files of a cell that are set aside: kept beside their usual places, under other names."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from avalanche_ext.results.files import (
    CHECKPOINT,
    CONFIG,
    EVENTS,
    RESULT,
    WANDB,
    replacing,
)

HASH = re.compile("[0-9a-f]{16}")
_IS_ASIDE = re.compile(f"-{HASH.pattern}(-[0-9]+)?$")


@dataclass(frozen=True)
class Aside:
    """Files set aside in a cell's folder, each under a label: NAME-LABEL beside its usual place.

    A label is a configuration's hash, or HASH-N.

    Args:
        folder: The cell's folder, which need not exist.
    """

    folder: Path

    def place(self, name: str, label: str) -> Path:
        """Return the place of a file of the folder that is set aside under a label."""
        return _aside(self.folder / name, label)

    def exhibits(self) -> list[Path]:
        """Return the exhibits' files that are not set aside; other such files are the user's."""
        found = (path for path in self.folder.glob("*.npz") if not _IS_ASIDE.search(path.stem))
        return [path for path in found if _is_exhibit(path)]

    def set_result(self, label: str) -> None:
        """Set the result aside with the files that belong to it."""
        if (self.folder / CONFIG).exists():
            # Copied, since a result must never lack its configuration.
            with replacing(self.place(CONFIG, label)) as partial:
                shutil.copyfile(self.folder / CONFIG, partial)
        # The result comes last: exhibits without one belong to a failed attempt.
        names = [path.name for path in self.exhibits()]
        for name in (*names, EVENTS, WANDB, RESULT):
            if (self.folder / name).exists():
                _move(self.folder / name, self.place(name, label))

    def set_broken_result(self) -> Path:
        """Move an unreadable result to result-broken-N.json, and return the new path."""
        return self._set_to_free(RESULT, "broken")

    def set_checkpoint(self) -> Path:
        """Move an unusable checkpoint to checkpoint-unusable-N.pt, and return the new path."""
        return self._set_to_free(CHECKPOINT, "unusable")

    def set_wandb(self, label: str) -> None:
        """Set wandb's files aside, if there are any."""
        if (self.folder / WANDB).exists():
            _move(self.folder / WANDB, self.place(WANDB, label))

    def set_interrupted(self, label: str) -> None:
        """Set an interrupted run's checkpoint aside with its events, until that runs again."""
        if self._has_checkpoint(label):
            for name in (CHECKPOINT, EVENTS):
                aside = self.place(name, label)
                if (self.folder / name).exists() and not aside.exists():
                    os.replace(self.folder / name, aside)

    def bring_interrupted_back(self, label: str) -> None:
        """Bring back the files that `set_interrupted` has set aside."""
        if self.place(CHECKPOINT, label).exists():
            for name in (EVENTS, CHECKPOINT):
                if self.place(name, label).exists():
                    os.replace(self.place(name, label), self.folder / name)

    def half_set(self, cell_hash: str) -> list[str]:
        """Return labels under which a dead process had begun to set aside a result still in place.

        Args:
            cell_hash: The hash of the result's configuration.
        """
        stem, suffix = Path(CONFIG).stem, Path(CONFIG).suffix
        copies = self.folder.glob(f"{stem}-{cell_hash}*{suffix}")
        labels = [path.stem.removeprefix(f"{stem}-") for path in copies]
        return [label for label in labels if not self.place(RESULT, label).exists()]

    def take_back(self, label: str) -> None:
        """Move files set aside under a label back to their usual places, overwriting none."""
        config = self.place(CONFIG, label)
        for path, place in self._under(label):
            if path != config and (place.is_dir() or not place.exists()):
                _move(path, place)
        if config.exists():  # Last, because its copy marks an unfinished move by a dead process.
            os.replace(config, self.folder / CONFIG)

    def has(self, label: str) -> bool:
        """Return whether anything is set aside under a label."""
        return bool(self._under(label))

    def free_label(self, cell_hash: str) -> str:
        """Return HASH-N with the first unused N from 1."""
        names = {path.name for path in self.folder.glob(f"*-{cell_hash}-*")}
        n = 1
        while any(re.search(rf"-{cell_hash}-{n}(\.|$)", name) for name in names):
            n += 1
        return f"{cell_hash}-{n}"

    def _under(self, label: str) -> list[tuple[Path, Path]]:
        """Return the files set aside under a label, each with its usual place."""
        found = self.folder.glob(f"*-{label}*")
        places = [(path, path.with_name(path.name.replace(f"-{label}", "", 1))) for path in found]
        return [(path, place) for path, place in places if _aside(place, label) == path]

    def _has_checkpoint(self, label: str) -> bool:
        """Return whether there is a checkpoint, in its usual place or set aside under a label."""
        return (self.folder / CHECKPOINT).exists() or self.place(CHECKPOINT, label).exists()

    def _set_to_free(self, name: str, what: str) -> Path:
        """Move a file to NAME-WHAT-N with the first unused N from 1."""
        n = 1
        while (path := self.place(name, f"{what}-{n}")).exists():
            n += 1
        os.replace(self.folder / name, path)
        return path


def _aside(path: Path, label: str) -> Path:
    return path.with_name(f"{path.stem}-{label}{path.suffix}")


def _move(source: Path, target: Path) -> None:
    """Move a file or folder in one step; into an existing folder, move its contents one by one.

    A link, such as wandb's `latest-run`, is moved as a link.
    """
    if source.is_dir() and target.is_dir() and not source.is_symlink():
        for path in [*source.iterdir()]:
            _move(path, target / path.name)
        source.rmdir()
    else:
        os.replace(source, target)


def _is_exhibit(path: Path) -> bool:
    """Return whether a file of arrays has a configuration's hash, as `write_exhibit` adds it."""
    try:
        with ZipFile(path) as arrays:
            return "hash.npy" in arrays.namelist()
    except (OSError, BadZipFile):
        return False
