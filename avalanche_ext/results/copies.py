"""Copies of the user's own files among a run's, so that its YAML can be run again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from avalanche_ext.results.files import remove_partials, replacing

SOURCE = "source"
"""The folder of the copies in a run's folder."""


def copies_folder(files: Mapping[str, str]) -> PurePosixPath:
    """Return where copies of these files are kept, relative to a run's folder.

    Args:
        files: Digests of the files by path, as `copy_files` takes them. Other versions of the
            files have another folder.
    """
    whole = "".join(f"{path}:{digest}\n" for path, digest in sorted(files.items()))
    return PurePosixPath(SOURCE, hashlib.sha256(whole.encode()).hexdigest()[:8])


def are_copied(files: Mapping[str, str], folder: Path) -> bool:
    """Return whether `copy_files` has copied all of these files into a folder."""
    return all((folder / copies_folder(files) / path).is_file() for path in files)


def copy_files(folder: Path, files: Mapping[str, str], run: Path) -> None:
    """Copy files into a run's folder, whose claim the caller holds.

    Args:
        folder: The folder of the files.
        files: The SHA-256 digest of each file's content, in hexadecimal digits, by its path
            relative to `folder`.
        run: The run's folder.

    Raises:
        ValueError: If the content of a file is another by now.
    """
    for path, digest in files.items():
        content = (folder / path).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(
                f"{folder / path} has been edited since this command began: run it again"
            )
        copy = run / copies_folder(files) / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(copy.parent, copy.name)
        with replacing(copy) as partial:
            partial.write_bytes(content)
