"""experiments/tutorials/your_own_method.md: its code, its YAML, its table and its messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from avalanche_ext.cli import main

FOLDER = Path(__file__).parent.parent / "experiments" / "tutorials"
PAGE = (FOLDER / "your_own_method.md").read_text("utf-8")
FILE = FOLDER / "mine.yaml"


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The words of each line of a report, without the seconds at the end of the first table."""
    lines = [line.split() for line in text.strip().splitlines()]
    end = lines.index([], 2)
    return lines[:3] + [words[:-3] for words in lines[3:end]] + lines[end:]


def test_the_page_shows_the_files_as_they_are() -> None:
    code = block("python").partition("\n\n\n")[2]
    assert code in (FOLDER / "mine.py").read_text("utf-8")
    assert block("yaml") == FILE.read_text("utf-8")


def test_the_table_on_the_page_is_what_the_command_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(FILE), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    printed = rows(block("text"))
    start = shown.index("mine: 4 methods x 3 seeds")
    assert rows(shown[start:])[: len(printed)] == printed
    config = tmp_path / "mine" / "stay_close" / "seed-0" / "config.yaml"
    name = yaml.safe_load(config.read_text("utf-8"))["plugins"][0]["name"]
    assert (config.parent / name.partition(":")[0]).read_text("utf-8") == (
        FOLDER / "mine.py"
    ).read_text("utf-8")


MISTAKES = {
    "'lamda'": ("lam: 0.1}]}\n  replay", "lam: 0.1, lamda: 0.1}]}\n  replay"),
    "StayClosed": ("StayClose", "StayClosed"),
    "mien.py": ("./mine.py:StayClose", "./mien.py:StayClose"),
    "OneLayer' is": ("./mine.py:StayClose", "./mine.py:OneLayer"),
    "'much'": ("noise: 0.1", "noise: much"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_typing_mistakes_are_answered_as_the_page_says(
    mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (message,) = re.findall(rf"^\| .* \| (.*{mistake}.*) \|$", PAGE, re.MULTILINE)
    (tmp_path / "mine.py").write_text((FOLDER / "mine.py").read_text("utf-8"), "utf-8")
    path = tmp_path / "wrong.yaml"
    path.write_text(FILE.read_text("utf-8").replace(*MISTAKES[mistake]), "utf-8")
    assert main(["check", str(path)]) == 2
    assert message in capsys.readouterr().err.replace(f"{tmp_path}/", "")
