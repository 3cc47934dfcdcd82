"""The first command of the README, as a user types it, on a real terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALLER = ["benchmark.train_size=40", "--seeds", "2", "--jobs", "2"]


def command(out: Path, *words: str) -> list[str]:
    file = str(ROOT / "experiments" / "quickstart.yaml")
    return [sys.executable, "-m", "avalanche_ext", "run", file, "--out", str(out), *words]


def run_on_a_terminal(words: list[str]) -> str:
    """Run a command whose output is a terminal, and return what it shows."""
    ours, theirs = pty.openpty()
    rows_and_columns = struct.pack("HHHH", 40, 120, 0, 0)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, rows_and_columns)
    process = subprocess.Popen(words, stdout=theirs, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # The other side is closed: the command has ended.
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    return out, run_on_a_terminal(command(out, *SMALLER))


def test_shows_progress_and_the_table(finished):
    _, shown = finished
    assert "10/10" in shown
    assert "cells" in shown
    assert "drl seed" in shown, "a bar per running cell"
    assert "10 cells run, 0 failed" in shown
    for method in ("naive", "replay", "er", "ber", "drl"):
        assert f"\n{method} " in shown.replace("\r", "")


def test_writes_table_figures_and_one_wandb_run_per_cell(finished):
    out, _ = finished
    names = {p.name for p in (out / "quickstart").iterdir() if p.is_file()}
    pictures = {"accuracy.png", "learning.png", "matrices.png"}
    assert names == {"report.txt", "summary.csv", "experiment.yaml"} | pictures
    assert len([*out.glob("quickstart/*/seed-*/wandb/offline-run-*/*.wandb")]) == 10


def test_the_same_command_again_runs_nothing_is_quiet_and_shows_the_same(finished):
    out, _ = finished
    report = (out / "quickstart" / "report.txt").read_text("utf-8")
    again = subprocess.run(
        command(out, *SMALLER), capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "0 cells run, 0 failed, 10 done before" in again.stdout
    assert report in again.stdout
    assert again.stderr == ""
