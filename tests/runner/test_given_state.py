"""Plugins of the user's that give and take their state themselves."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.config import Cell
from tests.runner.resuming import begun, left_by, progress, run, small

MINE = """
import itertools

from avalanche.core import SupervisedPlugin


def weights(n):
    yield from (1 + (i % 7) / 10 for i in itertools.count(n))


class Mine(SupervisedPlugin):
    def __init__(self):
        super().__init__()
        self.n_drawn = 0
        self.weights = weights(0)  # Which has no state of its own.

    def before_backward(self, strategy, **kwargs):
        self.n_drawn += 1
        strategy.loss *= next(self.weights)
"""
STATE = """
    def state_dict(self):
        return {"n_drawn": self.n_drawn}

    def load_state_dict(self, state):
        self.n_drawn = state["n_drawn"]
        self.weights = weights(self.n_drawn)
"""
RAISING = STATE.replace("return", "raise RuntimeError('not yet') #")


def cell_with(folder: Path, methods: str, **changed: Any) -> Cell:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE + methods, "utf-8")
    return small(folder, {"plugins": ["./mine.py:Mine"]}, **changed)


def test_a_run_that_is_killed_goes_on_with_what_the_plugin_has_given(tmp_path: Path) -> None:
    one = cell_with(tmp_path, STATE, minutes=1e-6)
    out = tmp_path / "out"
    for n_done in (0, 1):
        process = begun(tmp_path / "small.yaml", out, (n_done, 0))
        assert process.communicate()[1] == ""
        assert process.returncode == -signal.SIGKILL
        assert progress(one, out)["n_done"] == n_done
    run(one, out)
    assert not [*one.directory(out).glob("checkpoint*")]
    run(one, tmp_path / "whole")
    assert left_by(one, out) == left_by(one, tmp_path / "whole")


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ("", "Mine.weights is a generator, which cannot be stored"),
        (RAISING, "Mine.state_dict() raises RuntimeError: not yet"),
    ],
)
def test_why_a_plugin_gives_no_state_is_said_once(
    tmp_path: Path, capsys: Any, methods: str, reason: str
) -> None:
    one = cell_with(tmp_path, methods)
    run(one, tmp_path / "out")
    assert capsys.readouterr().err == (
        f"{one.directory(tmp_path / 'out')}: {reason}, so no checkpoint can be taken after an "
        "experience; if the run is ended there, it starts over\n"
    )
