"""A disk that is full, or read-only: the reason in one line, and all that is finished is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.runner.cases import SMALL

NO_SPACE = "No space left on device"
READ_ONLY = "Read-only file system"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def run(folder: Path, disk: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "seeds": 1}), "utf-8")
    command = [sys.executable, "-m", "avalanche_ext", "run", path, "--out", disk, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_full_disk_is_named_and_nothing_finished_is_lost(tmp_path: Path, disk: Path) -> None:
    for size in ("4k", "40k"):
        remount(disk, f"size={size}")
        ended = run(tmp_path, disk, "--jobs", "1")
        assert NO_SPACE in ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.returncode in ({0, 1} if size == "40k" else {1, 2})
    n_done = len([*disk.glob("small/*/seed-0/result.json")])
    remount(disk, "size=20m")
    last = run(tmp_path, disk)
    assert last.returncode == 0
    assert f"{n_done} done before" in last.stdout
    assert "2 of 2 runs finished" in last.stdout
    remount(disk, "ro")
    finished = run(tmp_path, disk)
    assert finished.returncode == 0
    assert "2 of 2 runs finished" in finished.stdout
    assert f"could not be written into {disk / 'small'}: {READ_ONLY}" in finished.stdout
    more = run(tmp_path, disk, "--seeds", "2")
    assert more.returncode == 2
    assert more.stderr == (
        f"--out {disk / 'small'}: cannot write there ({READ_ONLY}); name a folder you can write "
        "to\n"
    )
