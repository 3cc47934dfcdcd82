"""Claims hold between processes, name their holder, and end with it."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avalanche_ext.results.claims import ClaimedError, claimed, holder_of, is_claimed

HOLD = """
import sys, time
from pathlib import Path
from avalanche_ext.results.claims import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_claim_is_held_once_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "method" / "seed-0.lock"
    assert not is_claimed(lock)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        assert is_claimed(lock)
        holder = holder_of(lock)
        assert holder
        assert (holder.host, holder.pid) == (platform.node(), other.pid)
        assert abs(holder.since - time.time()) < 60
        with (
            pytest.raises(ClaimedError, match=f"process {other.pid} on {platform.node()} since 20"),
            claimed(lock, patience=0),
        ):
            pytest.fail("two hold the claim")
        other.kill()
    assert not is_claimed(lock)
    with claimed(lock):
        assert holder_of(lock) != holder


def test_a_claim_is_free_again_after_its_block_and_after_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "seed-0.lock"
    with claimed(lock):
        assert is_claimed(lock)
        assert str(holder_of(lock)).startswith(f"process {os.getpid()} on ")
    with pytest.raises(OSError, match="disk full"), claimed(lock):
        raise OSError("disk full")
    assert not is_claimed(lock)
    assert holder_of(lock) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_a_file_system_without_locks_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no fallback to lock files, which would outlive a killed holder."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(OSError, match="this file system has no file locks: choose another folder"),
        claimed(tmp_path / "seed-0.lock"),
    ):
        pytest.fail("it is claimed")


def test_a_claim_that_this_process_must_not_try_is_judged_by_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    lock = tmp_path / "seed-0.lock"
    with claimed(lock):
        monkeypatch.setattr("avalanche_ext.results.claims.FileLock", refused)
        assert is_claimed(lock)
    assert not is_claimed(lock)


def test_a_note_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "seed-0.lock"
    texts = (
        "{",
        "[]",
        "[" * 100_000,
        '{"host": "h"}',
        '{"host": "h", "pid": 1, "since": "x"}',
        '{"host": "h", "pid": 1, "since": 1e30}',
        '{"host": "h", "pid": 1, "since": NaN}',
        '{"host": "h", "pid": "1", "since": 1}',
        '{"host": ["h"], "pid": 1, "since": 1}',
    )
    for text in texts:
        lock.with_suffix(".json").write_text(text, "utf-8")
        assert holder_of(lock) is None


def test_a_note_cannot_steer_the_terminal(tmp_path: Path) -> None:
    lock = tmp_path / "seed-0.lock"
    note = '{"host": "h\\u001b[2J", "pid": 1, "since": 1}'
    lock.with_suffix(".json").write_text(note, "utf-8")
    assert str(holder_of(lock)).startswith(r"process 1 on h\x1b[2J since 19")
