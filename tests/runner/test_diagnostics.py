"""Plugins' numbers about an experience reach the run's events and change nothing else."""

import json

import pytest

from avalanche_ext.runner.cell import run_cell
from tests.runner.cases import cell

STREAM = {"name": "permuted_digits", "n_experiences": 3, "train_size": 60}
NAMES = {f"mgem/{name}" for name in ("projected", "violated", "active", "angle")}


def ran(folder, method):
    """The events of a cell with this one method, and its result."""
    folder.mkdir()
    one = cell(folder, "m", methods={"m": method}, benchmark=STREAM)
    assert run_cell(one, folder, None) == "completed"
    files = one.directory(folder)
    events = [json.loads(line) for line in (files / "events.jsonl").read_text().splitlines()]
    return events[1:-1], json.loads((files / "result.json").read_text())


def told(event):
    return {name for name in event if name.startswith("mgem/")}


@pytest.mark.parametrize(
    "make",
    [
        lambda args: {"plugins": [{"mgem": {"size_per_task": 10, **args}}]},
        lambda args: {"strategy": "MGEM", "args": {"size_per_task": 10, **args}},
    ],
    ids=["plugin", "strategy"],
)
def test_statistics_are_in_the_events_and_change_no_result(tmp_path, make):
    events, result = ran(tmp_path / "with", make({"statistics": True}))
    assert [event["experience"] for event in events] == [-1, 0, 1, 2]
    assert [told(event) for event in events] == [set(), set(), NAMES, NAMES]
    for event in events[2:]:
        assert 0 < event["mgem/violated"] <= event["mgem/projected"] <= 1
        assert 0 <= event["mgem/active"] <= 1
        assert 0 < event["mgem/angle"] <= 90
    plain_events, plain = ran(tmp_path / "without", make({}))
    assert not any(told(event) for event in plain_events)
    assert result["R"] == plain["R"]
    assert result["metrics"] == plain["metrics"]
