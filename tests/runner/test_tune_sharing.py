"""Searches that several commands share, and one that is killed in the middle of its search."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.results.experiment import read_results
from tests.runner.cases import SMALL, experiment
from tests.runner.test_tune import LR

pytestmark = pytest.mark.cluster

RATES = [0.01 * i for i in range(1, 15, 2)]
# So long that no command has run all before another begins.
LONG = {**SMALL["training"], "epochs": 40}


def searching(folder: Path, sampler: str = "grid", **tune: Any) -> Path:
    """Write a YAML with a search, and return its path."""
    trials = {} if sampler == "grid" else {"trials": 7}
    section = {
        "experiences": 2,
        "validation_per_experience": 20,
        "seeds": 1,
        "search": {"ber": {LR: RATES}},
        "sampler": sampler,
        **trials,
        **tune,
    }
    experiment(folder, training=LONG, tune=section)
    return folder / "small.yaml"


class Command:
    """`avalanche-ext run` with one worker."""

    def __init__(self, path: Path, out: Path, *words: str) -> None:
        command = [sys.executable, "-m", "avalanche_ext", "run", str(path), "--out", str(out)]
        self.process = subprocess.Popen(
            [*command, "--jobs", "1", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[str, str]:
        """Wait for its end, and return what it printed on both streams."""
        out, err = self.process.communicate(timeout=900)
        assert self.process.returncode == 0, err
        return out, err


def n_run(printed: str) -> int:
    return int(next(line for line in printed.splitlines() if " run, " in line).split()[0])


def chosen_in(out: Path) -> Any:
    (choice,) = read_results(out / "small").choices
    return choice


def finished(out: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(out)) for path in out.glob("*/*/*/result.json"))


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_shards_divide_a_search_and_all_end_with_the_same_choice(
    tmp_path: Path, sampler: str
) -> None:
    path, out = searching(tmp_path, sampler), tmp_path / "out"
    shards = [Command(path, out, "--shard", f"{i}/2") for i in (1, 2)]
    printed, told = zip(*(each.end() for each in shards), strict=True)
    assert not any("does not run yet" in each for each in printed)
    assert sum(map(n_run, printed)) == 7 + 4, "nothing is run twice"
    assert min(map(n_run, printed)) > 1, "both have searched"
    lines = [line for each in told for line in each.splitlines() if "chosen for" in line]
    assert len({*lines}) == 1
    assert len(finished(out)) == 7 + 4
    assert len(chosen_in(out).tried) == 7


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_a_command_that_is_killed_in_the_middle_of_a_search_goes_on(
    tmp_path: Path, sampler: str
) -> None:
    path, out = searching(tmp_path, sampler), tmp_path / "out"
    killed = Command(path, out)
    while len(finished(out)) < 3 and killed.process.poll() is None:
        time.sleep(0.05)
    killed.process.kill()
    before = {name: (out / name / "result.json").read_bytes() for name in finished(out)}
    assert 3 <= len(before) < 7
    Command(path, out).end()
    assert all((out / name / "result.json").read_bytes() == before[name] for name in before)
    whole = chosen_in(out)
    other = tmp_path / "undisturbed"
    Command(path, other).end()
    assert chosen_in(other) == whole
    assert finished(out) == finished(other)


def test_two_commands_with_other_values_at_once_each_choose_by_their_own(tmp_path: Path) -> None:
    """Their settings have the same folders, but other configurations."""
    out = tmp_path / "out"
    paths = []
    for name, n in (("mine", 20), ("other", 30)):
        (tmp_path / name).mkdir()
        search = {"ber": {LR: RATES[:4]}}
        paths.append(searching(tmp_path / name, validation_per_experience=n, search=search))
    both = [Command(path, out) for path in paths]
    for path, (printed, told) in zip(paths, [each.end() for each in both], strict=True):
        assert "does not run yet" not in printed
        # What a command alone chooses.
        alone = path.parent / "alone"
        _, expected = Command(path, alone).end()
        (line,) = (line for line in expected.splitlines() if "chosen for" in line)
        assert line in told
    sizes = {
        tuple(json.loads(path.read_text())["test_sizes"])
        for path in (out / "small-tuning").glob("*/*/result*.json")
    }
    assert sizes == {(20, 20), (30, 30)}
    assert len([*(out / "small-tuning").glob("*/*/result*.json")]) == 8
