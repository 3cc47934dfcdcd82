"""experiments/tutorials/five_minutes.md, word for word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from avalanche_ext.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "experiments" / "tutorials" / "five_minutes.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_command_does_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    said, n_compared = "", 0
    for language, block in BLOCKS:
        if language == "text":
            assert block.split() == said.split()
            n_compared += 1
            continue
        if language == "py":
            exec(block, {})
        else:
            for line in block.splitlines():
                command, *words = shlex.split(line, comments=True)
                assert command == "avalanche-ext"
                assert main(words) == (2 if "check" in words else 0)
        shown = capsys.readouterr()
        said = shown.out or shown.err
    assert n_compared == 3
    assert (tmp_path / "results" / "quickstart" / "report.html").exists()
    assert (tmp_path / "results" / "faster" / "drl" / "seed-1" / "result.json").exists()
