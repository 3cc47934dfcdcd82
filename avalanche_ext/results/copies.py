"""Copies of the user's files in a run's folder, so that its YAML can be run again.

Cells that start later also read the copies, because the originals may be edited meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from avalanche_ext.results.files import remove_partials, replacing

SOURCE = "source"
"""The folder of the copies in a run's folder."""

_READ: dict[Path, Path] = {}
"""The copies that are read instead of files, by the files' paths."""


def copies_folder(files: Mapping[str, str]) -> PurePosixPath:
    """Return the folder of copies of these files, relative to a run's folder.

    Args:
        files: The SHA-256 digest of each file's content, in hexadecimal digits, by its path
            relative to the folder of the files. Different versions of them have different folders.
    """
    whole = "".join(f"{path}:{digest}\n" for path, digest in sorted(files.items()))
    return PurePosixPath(SOURCE, hashlib.sha256(whole.encode()).hexdigest()[:8])


def are_copied(files: Mapping[str, str], run: Path) -> bool:
    """Return whether a run's folder has copies of all of these files."""
    return all((run / copies_folder(files) / path).is_file() for path in files)


def contents_of(folder: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """Return the contents of files by path.

    Args:
        folder: The folder of the files.
        files: Their digests, as for `copies_folder`.

    Raises:
        ValueError: If the content of a file has changed.
        OSError: If a file cannot be read.
    """
    contents = {path: (folder / path).read_bytes() for path in files}
    for path, digest in files.items():
        if hashlib.sha256(contents[path]).hexdigest() != digest:
            raise ValueError(
                f"{folder / path} has been edited since this command began: run it again"
            )
    return contents


def write_copies(contents: Mapping[str, bytes], files: Mapping[str, str], run: Path) -> None:
    """Write files into a run's folder, whose claim the caller holds.

    Args:
        contents: What `contents_of` returns.
        files: The digests of the files, as for `copies_folder`.
        run: The run's folder.
    """
    for path, content in contents.items():
        copy = run / copies_folder(files) / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(copy.parent, copy.name)
        with replacing(copy) as partial:
            partial.write_bytes(content)


@contextmanager
def reading(copies: Mapping[Path, Path]) -> Iterator[None]:
    """Inside, `content_of` reads copies of some files in their place.

    Args:
        copies: The copies by the paths of their originals, which keep their names: what is imported
            finds other files beside itself as before.
    """
    before = {**_READ}
    _READ.update(copies)
    try:
        yield
    finally:
        _READ.clear()
        _READ.update(before)


def content_of(file: Path) -> bytes:
    """Return the content of a file, or of the copy that is read instead.

    Raises:
        OSError: If it cannot be read.
    """
    return _READ.get(file, file).read_bytes()


def is_there(file: Path) -> bool:
    """Return whether `content_of` finds a file."""
    return _READ.get(file, file).is_file()
