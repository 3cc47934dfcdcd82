"""The JSON-lines sink: what a reader finds in events.jsonl, at the end and in between."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from avalanche_ext.tracking import JsonLinesSink
from tests.tracking.cases import (
    RESULT,
    UNTRAINED,
    R,
    report_experiences,
    report_series,
    run_in,
)


def events(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "seed-3" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def without_time(directory: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in event.items() if k != "time"} for event in events(directory)]


def test_every_event_is_one_line_in_the_order_reported(tmp_path: Path) -> None:
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    report_experiences(sink)
    sink.finish(RESULT)
    assert without_time(tmp_path) == [
        {
            "event": "start",
            "experiment": "quickstart",
            "method": "drl",
            "seed": 3,
            "n_experiences": 2,
        },
        {"event": "experience", "experience": -1, "accuracies": UNTRAINED},
        {"event": "experience", "experience": 0, "accuracies": R[0], "ACC": 0.9, "BWT": None},
        {"event": "experience", "experience": 1, "accuracies": R[1], "ACC": 0.7, "BWT": -0.3},
        {"event": "finish", "metrics": RESULT["metrics"], "seconds": RESULT["seconds"]},
    ]


def test_series_are_one_line_per_experience_with_null_for_none(tmp_path: Path) -> None:
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    report_series(sink)
    assert without_time(tmp_path)[1:] == [
        {
            "event": "series",
            "index": 1,
            "start": 4,
            "series": {"norm": [None, 0.5, 0.25], "loss": [2.0, 1.0]},
        },
        {"event": "series", "index": 2, "start": 7, "series": {"norm": [0.125, 0.75]}},
    ]


def test_events_carry_the_time_they_were_reported(tmp_path: Path) -> None:
    before = time.time()
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    report_experiences(sink)
    times = [event["time"] for event in events(tmp_path)]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.time()


def test_a_line_is_on_disk_as_soon_as_it_is_reported(tmp_path: Path) -> None:
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    assert [event["event"] for event in events(tmp_path)] == ["start"]
    sink.experience(-1, UNTRAINED, {})
    assert [event["event"] for event in events(tmp_path)] == ["start", "experience"]


def test_a_failure_is_the_last_line(tmp_path: Path) -> None:
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    sink.fail("loss became NaN at iteration 312")
    assert without_time(tmp_path)[-1] == {
        "event": "failure",
        "error": "loss became NaN at iteration 312",
    }


def test_a_second_attempt_starts_a_fresh_file(tmp_path: Path) -> None:
    for _ in range(2):
        sink = JsonLinesSink()
        sink.start(run_in(tmp_path))
        sink.experience(-1, UNTRAINED, {})
    assert [event["event"] for event in events(tmp_path)] == ["start", "experience"]


def test_numbers_json_cannot_express_are_null(tmp_path: Path) -> None:
    sink = JsonLinesSink()
    sink.start(run_in(tmp_path))
    sink.experience(0, [0.5, math.nan], {"loss": math.inf})
    assert "NaN" not in (tmp_path / "seed-3" / "events.jsonl").read_text(encoding="utf-8")
    assert without_time(tmp_path)[-1] == {
        "event": "experience",
        "experience": 0,
        "accuracies": [0.5, None],
        "loss": None,
    }


def test_reporting_before_the_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="'experience' was reported before the run was started"):
        JsonLinesSink().experience(0, [0.5], {})
