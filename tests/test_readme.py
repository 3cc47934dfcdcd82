"""What the README shows is true."""

import re
import shlex
from pathlib import Path

import pytest

from avalanche_ext.cli import main
from avalanche_ext.config import load_experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def block(language: str) -> str:
    """The first block of the README in this language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


def test_the_script_runs_and_learns(capsys):
    exec(compile(block("python"), "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    accuracy = re.search(r"'ACC': ([0-9.]+)", printed)
    assert accuracy
    assert float(accuracy[1]) > 0.8


def test_the_experiment_is_valid(tmp_path):
    path = tmp_path / "readme.yaml"
    path.write_text(block("yaml"), "utf-8")
    assert list(load_experiment(path).methods) == ["replay", "ewc", "ber", "drl"]


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"experiments/[\w/]+\.(?:yaml|py)", README)))
)
def test_the_files_it_names_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/**/*.yaml")), ids=lambda p: p.name)
def test_every_experiment_is_valid(path):
    assert main(["check", str(path)]) == 0


def test_ci_runs_the_command_the_readme_gives():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    last = [shlex.split(command.split("&&")[-1])[1:] for command in commands]
    assert ["-m", "pytest"] in last
    assert '"$environment/bin/python" -m pytest' in (ROOT / ".ci" / "run").read_text("utf-8")
