"""experiments/tutorials/papers_table.md: its parts of the file, and its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from avalanche_ext.cli import main
from tests.cases import needs_mnist

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "experiments" / "tutorials" / "papers_table.md").read_text("utf-8")
FILE = "experiments/drl/split_mnist.yaml"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def assert_within(part: Any, whole: Any) -> None:
    if isinstance(part, dict):
        for key, value in part.items():
            assert_within(value, whole[key])
    else:
        assert part == whole


def test_the_page_quotes_the_file() -> None:
    whole = yaml.safe_load((ROOT / FILE).read_text("utf-8"))
    (part,) = blocks("yaml")
    assert_within(yaml.safe_load(part), whole)


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for block in blocks("bash") for line in block.splitlines()]


def test_its_commands_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    runs = [words for words in commands() if words[0] == "run"]
    assert len(runs) == 2
    for words in runs:
        assert main([*words, "--dry-run", "--out", str(tmp_path)]) == 0


@needs_mnist
@pytest.mark.paper
def test_they_show_the_papers_numbers_next_to_ours(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    whole = ["run", FILE]
    for words in commands():
        if words != whole:  # An hour's work.
            assert main(words) == 0
    shown = capsys.readouterr().out
    (printed,) = blocks("text")
    assert {*printed.splitlines()} <= {*shown.splitlines()}
    assert r"\toprule" in shown
