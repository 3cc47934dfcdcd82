"""Several sinks as one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_ext.tracking import Run, Sinks
from tests.tracking.cases import RESULT, report_experiences, report_series, run_in


class Recorder:
    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self.name = name
        self.calls = calls

    def start(self, run: Run) -> None:
        self.calls.append((self.name, "start", run))

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        self.calls.append((self.name, "experience", index, accuracies, metrics))

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        self.calls.append((self.name, "series", index, start, series))

    def finish(self, result: Mapping[str, Any]) -> None:
        self.calls.append((self.name, "finish", result))

    def fail(self, error: str) -> None:
        self.calls.append((self.name, "fail", error))


def test_every_sink_gets_every_call_in_order(tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    sinks = Sinks([Recorder("first", calls), Recorder("second", calls)])
    sinks.start(run_in(tmp_path))
    report_experiences(sinks)
    report_series(sinks)
    sinks.finish(RESULT)
    sinks.fail("lost")
    first, second = calls[0::2], calls[1::2]
    assert [call[1] for call in first] == [
        "start",
        *["experience"] * 3,
        *["series"] * 2,
        "finish",
        "fail",
    ]
    assert {call[0] for call in first} == {"first"}
    assert [call[1:] for call in first] == [call[1:] for call in second]
    assert first[-2][2] is RESULT


def test_no_sinks_is_a_sink_too(tmp_path: Path) -> None:
    sinks = Sinks([])
    sinks.start(run_in(tmp_path))
    report_experiences(sinks)
    report_series(sinks)
    sinks.finish(RESULT)
    assert not list(tmp_path.iterdir())


def test_importing_the_sinks_imports_neither_wandb_nor_torch_nor_matplotlib() -> None:
    code = (
        "import sys, avalanche_ext.tracking;"
        "print([m for m in ('wandb', 'torch', 'avalanche', 'matplotlib') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
