"""What a wandb costs that cannot start, or dies."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import wandb

from avalanche_ext.tracking import JsonLinesSink, Sinks, WandbSink
from tests.tracking.cases import (
    RESULT,
    UNTRAINED,
    report_experiences,
    report_series,
    run_in,
)
from tests.tracking.wandb_files import finished_run, read_stored_run


def assert_the_run_survives(
    directory: Path, sabotage: Callable[[], None], message: str
) -> WandbSink:
    """Report a whole run with the sabotage after its first evaluation: one warning, no loss."""
    sink = WandbSink()
    sinks = Sinks([sink, JsonLinesSink()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sinks.start(run_in(directory))
        sinks.experience(-1, UNTRAINED, {})
        sabotage()
        report_experiences(sinks)
        report_series(sinks)
        sinks.finish(RESULT)
    texts = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert len(texts) == 1
    assert message in texts[0]
    assert "continues without it" in texts[0]
    events = (directory / "seed-3" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["event"] for line in events] == [
        "start",
        *["experience"] * 4,
        *["series"] * 2,
        "finish",
    ]
    return sink


def test_a_folder_wandb_cannot_use_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "seed-3").mkdir()
    (tmp_path / "seed-3" / "wandb").write_text("a file where wandb wants its folder")
    sink = assert_the_run_survives(tmp_path, lambda: None, "NotADirectoryError")
    assert sink.offline_directory is None


def test_a_project_wandb_refuses_costs_one_warning(tmp_path: Path) -> None:
    sink = WandbSink(project="no/such:name")
    with pytest.warns(RuntimeWarning, match="Invalid project name 'no/such:name'") as caught:
        sink.start(run_in(tmp_path))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report_experiences(sink)
        sink.finish(RESULT)


def test_an_online_run_without_a_key_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody there to be asked for a key
    sink = WandbSink("online")
    with pytest.warns(RuntimeWarning, match="No API key"):
        sink.start(run_in(tmp_path))
    sink.fail("nothing left to tell")


def test_a_closed_service_costs_one_warning_and_the_next_run_starts(tmp_path: Path) -> None:
    assert_the_run_survives(tmp_path / "first", wandb.teardown, "teardown")
    finished_run(tmp_path / "second")


def test_a_killed_service_costs_one_warning_and_the_next_run_starts(tmp_path: Path) -> None:
    def kill() -> None:
        services = [
            child for child in psutil.Process().children() if child.name().startswith("wandb-core")
        ]
        assert services, "wandb's service process was not found"
        for service in services:
            service.kill()
        psutil.wait_procs(services, timeout=10)

    assert_the_run_survives(tmp_path / "first", kill, "Connection")
    finished_run(tmp_path / "second")


def test_a_full_disc_at_the_end_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    sabotage = lambda: monkeypatch.setattr(wandb, "Table", refuse)  # noqa: E731
    sink = assert_the_run_survives(tmp_path, sabotage, "No space left on device")
    assert sink.offline_directory is not None
    assert read_stored_run(sink.offline_directory).exit_code == 1
