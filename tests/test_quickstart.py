"""The first command of the README, as a user types it, on a real terminal."""

import fcntl
import os
import pty
import re
import runpy
import struct
import subprocess
import sys
import termios
from pathlib import Path

import matplotlib as mpl
import pytest

from avalanche_ext.cli import main

ROOT = Path(__file__).parent.parent


def quickstart(out: Path) -> list[str]:
    file = str(ROOT / "experiments" / "quickstart.yaml")
    return ["run", file, "--out", str(out), "--jobs", "2"]


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
    return out, run_on_a_terminal([sys.executable, "-m", "avalanche_ext", *quickstart(out)])


def untimed(report: str) -> list[list[str]]:
    """The words of each line, without seconds and memory at the end of the first table's rows."""
    lines = [line.split() for line in report.strip().splitlines()]
    end = lines.index([], 2)
    return lines[:3] + [words[:-3] for words in lines[3:end]] + lines[end:]


def test_shows_the_table_that_the_readme_prints(finished):
    printed = re.search(
        r"```text\n(quickstart: .*?)```", (ROOT / "README.md").read_text("utf-8"), re.S
    )
    assert printed
    shown = untimed(
        finished[1].replace("\r", "").split("already finished\n\n")[1].split("\n\nreport.txt")[0]
    )
    promised = untimed(printed[1])
    shown = shown[: len(promised)]  # The tests in BWT follow.
    assert [len(words) for words in shown] == [len(words) for words in promised]
    for words, expected in zip(shown, promised, strict=True):
        end = next((i for i, word in enumerate(expected) if word.endswith("]")), len(expected))
        for place, (word, wanted) in enumerate(zip(words, expected, strict=True)):
            # Processors round differently, and effect sizes and p-values amplify it.
            tolerance = {"abs": 0.05, "rel": 0.1} if place > end else {"abs": 0.01}
            try:
                number, promise = float(word.strip("[],")), float(wanted.strip("[],"))
            except ValueError:
                assert word == wanted
            else:
                assert number == pytest.approx(promise, **tolerance), expected


def test_shows_progress_and_the_table(finished):
    _, shown = finished
    assert "0 of 25 cells" in shown, "a bar"
    assert "25 cells run, 0 failed" in shown
    for method in ("naive", "replay", "er", "ber", "drl"):
        assert f"\n{method} " in shown.replace("\r", "")


def test_writes_table_figures_and_one_wandb_run_per_cell(finished):
    out, _ = finished
    names = {p.name for p in (out / "quickstart").iterdir() if p.is_file()}
    pictures = {"accuracy.png", "differences.png", "learning.png", "matrices.png"}
    written = {"report.txt", "summary.csv", "experiment.yaml", "record.yaml"}
    hidden = {".key", ".pictures.json"}
    assert names == written | hidden | pictures
    assert len([*out.glob("quickstart/*/seed-*/wandb/offline-run-*/*.wandb")]) == 25


def test_the_same_command_again_runs_nothing_is_quiet_and_shows_the_same(finished, capfd):
    out, _ = finished
    report = (out / "quickstart" / "report.txt").read_text("utf-8")
    assert main(quickstart(out)) == 0
    shown, said = capfd.readouterr()
    assert "0 cells run, 0 failed, 25 already finished" in shown
    assert report in shown
    assert said == ""


def test_the_readmes_picture_is_drawn_from_its_results(finished, tmp_path, monkeypatch):
    script = tmp_path / "quickstart.py"
    script.write_text((ROOT / ".github/images/quickstart.py").read_text("utf-8"), "utf-8")
    monkeypatch.setattr(sys, "argv", [str(script), str(finished[0] / "quickstart")])
    with mpl.rc_context():
        runpy.run_path(str(script), run_name="__main__")
    drawn = (tmp_path / "quickstart.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > 20_000
