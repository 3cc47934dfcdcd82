"""What a grid says while it runs: a bar, lines, both or nothing."""

import io
import json
import os
import re
import time
from types import SimpleNamespace

import pytest

from avalanche_ext.runner.progress import NORMAL, QUIET, VERBOSE, Progress
from avalanche_ext.tracking import JsonLinesSink, Run
from tests.runner.cases import RESULT, experiment


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch, tmp_path, stream, verbosity):
    """Let a grid of four cells finish one, fail one and be halfway through a third."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("avalanche_ext.runner.progress._SECONDS_BETWEEN_LOOKS", 0.01)
    first, second, third, _ = cells = experiment(tmp_path).cells()
    with Progress(cells, tmp_path, verbosity) as progress:
        first.files(tmp_path).begin()
        first.files(tmp_path).write_result({**RESULT, "metrics": {}})
        progress.ended(first)
        progress.ended(second, "DivergedError: the loss became nan")
        folder = third.files(tmp_path).begin()
        events = [
            {"event": "start", "n_experiences": 2},
            {"event": "experience", "experience": -1},
            {"event": "experience", "experience": 0},
        ]
        lines = [json.dumps({"time": time.time(), **event}) + "\n" for event in events]
        (folder / "events.jsonl").write_text("".join(lines), "utf-8")
        time.sleep(0.5)
    return stream.getvalue()


LINES = [
    "naive seed 0: ACC 0.625, 3.5 s (1 of 4)",
    "ber seed 0: failed: DivergedError: the loss became nan (2 of 4)",
]


def test_without_a_terminal_each_cell_that_ends_has_a_line(monkeypatch, tmp_path):
    assert shown(monkeypatch, tmp_path, io.StringIO(), NORMAL).splitlines() == LINES


def test_a_notebook_has_a_bar_and_a_script_with_its_libraries_has_lines(monkeypatch, tmp_path):
    for library in ("IPython", "ipykernel"):
        pytest.importorskip(library)
    for each in ("script", "notebook"):
        (tmp_path / each).mkdir()
    assert shown(monkeypatch, tmp_path / "script", io.StringIO(), NORMAL).splitlines() == LINES
    monkeypatch.setattr("IPython.get_ipython", object)  # ipython script.py 2> file
    (tmp_path / "ipython").mkdir()
    assert shown(monkeypatch, tmp_path / "ipython", io.StringIO(), NORMAL).splitlines() == LINES
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    assert "of 4 cells" in shown(monkeypatch, tmp_path / "notebook", io.StringIO(), NORMAL)


def test_verbose_also_says_when_cells_begin(monkeypatch, tmp_path):
    told = shown(monkeypatch, tmp_path, io.StringIO(), VERBOSE).splitlines()
    assert told == [*LINES, "naive seed 1: starts"]


def test_a_terminal_has_one_bar_that_counts_parts_of_cells_and_the_time_left(monkeypatch, tmp_path):
    told = shown(monkeypatch, tmp_path, Terminal(), NORMAL)
    bars = [bar for bar in told.split("\r") if "%" in bar]
    assert "0 of 4 cells" in bars[0]
    # Two of four have ended, and half of the third is done.
    assert re.search(r" 62%\|.*\| 2 of 4 cells \[00:0\d<00:0\d\]", bars[-1])
    assert not any(line in told for line in LINES)


def test_a_verbose_terminal_has_bar_and_lines(monkeypatch, tmp_path):
    told = shown(monkeypatch, tmp_path, Terminal(), VERBOSE)
    assert "of 4 cells" in told
    assert all(line in told for line in LINES)


def test_a_cell_that_resumes_says_where_and_costs_no_time_so_far(monkeypatch, tmp_path):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("avalanche_ext.runner.progress._SECONDS_BETWEEN_LOOKS", 0.01)
    first, second, *_ = cells = experiment(tmp_path, seeds=1).cells()
    for cell, n_experiences in ((first, 4), (second, None)):
        folder = cell.files(tmp_path).begin()
        events = [
            {"event": "start", "n_experiences": n_experiences},
            *({"event": "experience", "experience": index} for index in (-1, 0, 1)),
        ]
        lines = [json.dumps({"time": time.time() - 60, **event}) + "\n" for event in events]
        (folder / "events.jsonl").write_text("".join(lines), "utf-8")
        os.utime(folder / "events.jsonl", (0, 0))
    with Progress(cells, tmp_path, VERBOSE):
        time.sleep(0.2)
        assert "resumes" not in terminal.getvalue(), "an earlier command has left it"
        for cell in (first, second):
            sink = JsonLinesSink()
            events = cell.directory(tmp_path) / "events.jsonl"
            kept = events.stat().st_size
            sink.start(Run("small", "naive", 0, {}, events.parent, None, n_bytes_kept=kept))
        time.sleep(0.5)
    told = terminal.getvalue()
    assert "naive seed 0: resumes at experience 3 of 4\n" in told
    assert "ber seed 0: resumes at experience 3\n" in told
    bars = [bar for bar in told.split("\r") if "%" in bar]
    assert re.search(r" 25%\|.*\| 0 of 2 cells \[00:0\d<\?\]", bars[-1])


def test_damaged_files_end_no_line_and_no_bar(monkeypatch, tmp_path):
    """Neither events of another shape, nor a result that is gone when it is to be shown."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("avalanche_ext.runner.progress._SECONDS_BETWEEN_LOOKS", 0.01)
    first, second, third, fourth = cells = experiment(tmp_path).cells()
    odd = [[{}], [{"event": "start"}, {"experience": "x"}, {"experience": None}]]
    right = [{"event": "start", "n_experiences": 2}, {"experience": 0}]
    with Progress(cells, tmp_path, VERBOSE) as progress:
        for each, events in zip((first, second, third), (*odd, right), strict=True):
            lines = [json.dumps({"time": time.time(), **event}) + "\n" for event in events]
            (each.files(tmp_path).begin() / "events.jsonl").write_text("".join(lines), "utf-8")
            time.sleep(0.1)
        monkeypatch.setattr("avalanche_ext.runner.progress.read_cell", gone)
        progress.ended(fourth)
    told = terminal.getvalue()
    assert "naive seed 1: starts" in told, "the bar goes on after the odd ones"
    assert "ber seed 1: unreadable result ([Errno 2] gone) (1 of 4)" in told


def gone(*_: object) -> None:
    raise FileNotFoundError(2, "gone")


def test_what_is_not_an_end_is_said_too_but_not_when_quiet(monkeypatch, tmp_path):
    for verbosity, told in ((QUIET, ""), (NORMAL, "waiting for cells\n")):
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        Progress([], tmp_path, verbosity).say("waiting for cells")
        assert stream.getvalue() == told


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_shows_nothing(monkeypatch, tmp_path, stream):
    assert shown(monkeypatch, tmp_path, stream(), QUIET) == ""
