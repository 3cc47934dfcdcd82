"""A disk that is full, or read-only: the reason in one line, and all that is finished is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from avalanche_ext.cli import main
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


def test_a_full_disk_is_named_and_nothing_finished_is_lost(
    tmp_path: Path, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "seeds": 1}), "utf-8")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["run", str(path), "--out", str(disk), *words])
        return code, *capfd.readouterr()

    for size, least in (("4k", 0), ("40k", 1)):
        remount(disk, f"size={size}")
        code, shown, said = run("--jobs", "1")
        assert NO_SPACE in shown + said
        assert "Traceback" not in shown + said
        n_done = len([*disk.glob("small/*/seed-0/result.json")])
        # At first not even the folder's lock has room; later results have, if no checkpoints.
        assert n_done >= least
        assert code == (2 if not least else int(n_done < 2))
        assert said.count(": ACC ") == n_done
    assert f"{n_done} cell{'s' * (n_done > 1)} run, {2 - n_done} failed" in shown
    remount(disk, "size=20m")
    code, shown, _ = run()
    assert code == 0
    assert f"{n_done} already finished" in shown
    assert "2 of 2 runs finished" in shown
    remount(disk, "ro")
    code, shown, _ = run()
    assert code == 0
    assert "2 of 2 runs finished" in shown
    assert f"could not be written to {disk / 'small'}: {READ_ONLY}" in shown
    code, shown, said = run("--dry-run")
    assert (code, shown, said) == (0, "small: 0 of 2 cells would run\n", "")
    code, _, said = run("--seeds", "2")
    assert code == 2
    assert said == (
        f"--out {disk / 'small'}: cannot write there ({READ_ONLY}); name a folder you can write "
        "to\n"
    )
