"""A cache of decoded data sets on this machine's disk, which processes map into their memory.

An entry is a file written by torch.save. Its key is a digest of the files that the data set was
decoded from (paths, sizes, times of change), of the decoding and of the versions, so it is never
out of date. An entry is first written under another name, and never changed afterwards. So all
processes that map it share one copy in memory.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from avalanche_ext import __version__
from avalanche_ext.results.files import reason_of, remove_partials, replacing

FOLDER_VARIABLE = "AVALANCHE_EXT_CACHE"
"""The environment variable that names the folder."""

_FORMAT = 1
_FEWEST_FILES = 500
_FEWEST_BYTES = 2**23
"""Data with fewer files and fewer bytes are decoded faster than they are looked up."""
_SECONDS_TO_SETTLE = 2.0
"""How long after a change a file system may give another change the same time."""
_SECONDS_TO_WAIT = 1800.0
"""How long to wait for another process that decodes the same data before also decoding it."""
_DAY = 86400.0
_DAYS_KEPT = 30
"""Number of days after which an unused entry is removed."""

Content = dict[str, Any]
"""Tensors and plain values by their names."""


class UncachedWarning(UserWarning):
    """A data set was decoded but could not be cached for other processes."""


@dataclass(frozen=True)
class Entry:
    """One file of the cache.

    Attributes:
        path: The file.
        n_bytes: Its size.
        used: Time of its last use, to a day, in seconds since the epoch.
    """

    path: Path
    n_bytes: int
    used: float

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.path.stem.rpartition("-")[0]


def cache_folder() -> Path:
    """Return the folder: $AVALANCHE_EXT_CACHE, otherwise one in the user's cache folder.

    That is `~/.cache/avalanche-ext` or `$XDG_CACHE_HOME/avalanche-ext` on Linux.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("avalanche-ext", appauthor=False)


def entries() -> list[Entry]:
    """Return what the cache holds, the last used first.

    Raises:
        OSError: If its folder is there but cannot be read.
    """
    found = []
    for path in _listed(cache_folder()):
        with suppress(FileNotFoundError):  # Another process may have removed it.
            seen = path.stat()
            found.append(Entry(path, seen.st_size, seen.st_mtime))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear() -> list[Entry]:
    """Remove all that the cache holds, and return it.

    Processes that have mapped an entry keep it on this machine; on a network drive, those of
    another machine would not.

    Raises:
        OSError: If a file cannot be removed.
    """
    folder, removed = cache_folder(), entries()
    for entry in removed:
        entry.path.unlink(missing_ok=True)
    remove_partials(folder)
    for lock in folder.glob("*.lock"):
        lock.unlink(missing_ok=True)
    return removed


def decoded(
    name: str, files: Sequence[str], how: Sequence[object], decode: Callable[[], Content]
) -> Content:
    """Return what `decode` returns, from the cache if it holds that.

    Small data sets are always decoded. Where the cache cannot be written, as on a full disk, an
    UncachedWarning says so in one line.

    Args:
        name: What to call the data set in the cache.
        files: The files that `decode` reads. Nothing but their names and contents, `how` and the
            code in the folder of its module decides what it returns.
        how: Arguments that it was given, whose texts tell them apart.
        decode: Returns tensors and plain values by their names.

    Returns:
        What was decoded. Tensors from the cache are mapped into memory: what is written to them
        stays in this process.
    """
    before = _Fingerprint.of(files)
    if before is None:
        return decode()
    whole = (before.digest, _FORMAT, *how, *_versions(), _code_of(decode))
    digest = hashlib.sha256("\0".join(map(str, whole)).encode()).hexdigest()[:32]
    name = re.sub(r"[^\w.]+", "_", name)[:60]
    path = cache_folder() / f"{name}-{digest}.pt"
    if (content := _read(path, digest)) is not None:
        return content
    with _alone(path):
        if (content := _read(path, digest)) is not None:
            return content
        content = decode()
        # Files may have changed meanwhile, or so soon before that the times cannot tell.
        if not before.is_settled or _Fingerprint.of(files) != before:
            return content
        try:
            _write(path, digest, content)
        except (OSError, RuntimeError) as error:  # torch raises its own errors for a full disk.
            reason = reason_of(error) if isinstance(error, OSError) else "the disk may be full"
            warnings.warn(
                f"each run decodes {name} again: {path.parent} cannot be written ({reason}); "
                f"set {FOLDER_VARIABLE} to a folder with room",
                UncachedWarning,
                stacklevel=2,
            )
            return content
    _remove_unused()
    return content if (mapped := _read(path, digest)) is None else mapped


@dataclass(frozen=True)
class _Fingerprint:
    """A fingerprint of the state of some files.

    Attributes:
        digest: A digest of their paths, sizes and times of change.
        is_settled: Whether any later change would be detected.
    """

    digest: str
    is_settled: bool

    @staticmethod
    def of(files: Sequence[str]) -> _Fingerprint | None:
        """Inspect files; None if they are small, or if one of them cannot be inspected."""
        now = time.time_ns()
        digest, n_bytes, newest = hashlib.sha256(), 0, 0
        try:
            for file in files:
                seen = os.stat(file)
                # ctime also reveals files whose mtime was set back.
                times = seen.st_mtime_ns, seen.st_ctime_ns
                digest.update(f"{file}\0{seen.st_size}\0{times}\n".encode(errors="replace"))
                n_bytes += seen.st_size
                newest = max(newest, *times)
        except OSError:
            return None
        if len(files) < _FEWEST_FILES and n_bytes < _FEWEST_BYTES:
            return None
        return _Fingerprint(digest.hexdigest(), now - newest > _SECONDS_TO_SETTLE * 1e9)


def _versions() -> list[str]:
    return [__version__, *map(version, ("torch", "torchvision", "pillow", "numpy"))]


def _code_of(decode: Callable[[], Content]) -> str:
    files = sorted(Path(inspect.getfile(decode)).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(path: Path, digest: str) -> Content | None:
    """Return an entry, mapped into memory; None if it is missing or damaged."""
    import torch

    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        content: Content = stored["content"]
        if stored["digest"] != digest:
            return None
        if time.time() - path.stat().st_mtime > _DAY:
            with suppress(OSError):  # The folder may belong to someone else.
                os.utime(path)
    # torch may raise anything for bytes that it did not write.
    except Exception:
        return None
    return content


def _write(path: Path, digest: str, content: Content) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        torch.save({"digest": digest, "content": content}, file)


def _remove_unused() -> None:
    with suppress(OSError):
        for entry in entries():
            if time.time() - entry.used > _DAYS_KEPT * _DAY:
                entry.path.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [folder / each for each in os.listdir(folder) if each.endswith(".pt")]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait while another process of this machine writes the same entry.

    Without locks, several processes may decode it; each still writes a complete file.
    """
    # A lock file's mere existence would outlive a killed process.
    lock = FileLock(path.with_suffix(".lock"), fallback_to_soft=False)
    with suppress(OSError, NotImplementedError, Timeout):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_SECONDS_TO_WAIT)
    try:
        yield
    finally:
        lock.release()
