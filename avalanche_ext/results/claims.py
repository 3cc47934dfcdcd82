"""Claims, by which commands that share a folder divide the runs."""

from __future__ import annotations

import errno
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from avalanche_ext.results.files import printable, read_json

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_MOMENT = 1.0
"""Seconds for which a free claim may be busy because another process checks it."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a claim.

    Attributes:
        host: Name of its machine.
        pid: Its number there.
        since: When it took the claim, in seconds since the epoch.
    """

    host: str
    pid: int
    since: float

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M:%S")
        return f"process {self.pid} on {self.host} since {since}"


class ClaimedError(Exception):
    """Another process holds the claim; the message names it."""


@contextmanager
def claimed(path: Path, patience: float = _MOMENT) -> Iterator[None]:
    """Hold a claim while the block runs.

    The claim is an operating-system lock on `path`, which ends with its holder in any case. A JSON
    file beside it names the holder. On a network file system the claim is only as reliable as its
    locks.

    Args:
        path: The file to lock, which need not exist, and is kept.
        patience: Seconds to wait for another holder to release it.

    Raises:
        ClaimedError: If another process still holds it.
        OSError: If the file cannot be created or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise ClaimedError(str(holder_of(path) or "another process")) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        reason = "this file system has no file locks: choose another folder with --out"
        raise OSError(error.errno, reason, str(path)) from error
    note = path.with_suffix(".json")
    try:
        with suppress(OSError):  # The note is only informative: the lock works without it.
            note.write_text(json.dumps(asdict(_this_process())), "utf-8")
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def is_claimed(path: Path) -> bool:
    """Return whether a process, perhaps this one, holds the claim.

    If this process may not lock the file, as in another user's folder, the holder's note decides.
    """
    try:
        if not path.exists():
            return False
        with _lock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return holder_of(path) is not None


def holder_of(path: Path) -> Holder | None:
    """Return the recorded holder; None if there is none or the record is unreadable."""
    try:
        note = read_json(path.with_suffix(".json"))
        host, pid, since = note["host"], note["pid"], note["since"]
        if not (isinstance(host, str) and type(pid) is int and isinstance(since, int | float)):
            return None
        holder = Holder(printable(host), pid, since)
        str(holder)  # It fails if the time is out of range.
    except (OSError, ValueError, KeyError, OverflowError):
        return None
    return holder


def look_again(folder: Path) -> None:
    """Make a network file system refresh its cache of a folder and of the two above it.

    A machine may not see a file for up to a minute after another one has written it. Changing or
    listing the folder makes the file system check for changes.
    """
    for each in (folder.parent.parent, folder.parent, folder):
        with suppress(OSError):
            with tempfile.TemporaryFile(dir=each):
                pass
            os.listdir(each)


def _lock(path: Path) -> FileLock:
    # A lock file's mere existence would outlive a killed holder.
    return FileLock(path, fallback_to_soft=False)


def _this_process() -> Holder:
    return Holder(platform.node(), os.getpid(), time.time())
