"""A run's numbers as JSON lines: one event per line, readable during the run."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avalanche_ext.results.files import EVENTS
from avalanche_ext.tracking.sinks import Run


class JsonLinesSink:
    """Append each event to events.jsonl in the run's folder.

    Every line is one JSON object with `time` (seconds since the epoch) and `event`: "start",
    "experience", "series", "finish" or "failure". A line is on disk when the call returns, so a
    killed run keeps what it has reported. Numbers that JSON cannot express (nan, infinity) are
    written as null.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    def start(self, run: Run) -> None:
        """Empty the file, create the folder if needed, and write the "start" line.

        A run that resumes from a checkpoint keeps the lines written up to that checkpoint.
        """
        run.directory.mkdir(parents=True, exist_ok=True)
        self._path = run.directory / EVENTS
        if run.n_bytes_kept is not None:
            os.truncate(self._path, run.n_bytes_kept)
            os.utime(self._path)  # Shows whoever follows the grid that the run is alive.
            return
        self._path.write_text("", encoding="utf-8")
        self._write(
            "start",
            experiment=run.experiment,
            method=run.method,
            seed=run.seed,
            n_experiences=run.n_experiences,
        )

    def experience(
        self, index: int, accuracies: Sequence[float], metrics: Mapping[str, float | None]
    ) -> None:
        """Write an "experience" line: its index, the accuracies, and the metrics by name."""
        self._write("experience", experience=index, accuracies=list(accuracies), **metrics)

    def series(self, index: int, start: int, series: Mapping[str, Sequence[float]]) -> None:
        """Write a "series" line: the experience's index, its first iteration, lists by name."""
        lists = {name: list(values) for name, values in series.items()}
        self._write("series", index=index, start=start, series=lists)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the "finish" line, with the final metrics and the seconds of each phase."""
        self._write("finish", metrics=result["metrics"], seconds=result["seconds"])

    def fail(self, error: str) -> None:
        """Write the "failure" line, with the error."""
        self._write("failure", error=error)

    def _write(self, event: str, **fields: Any) -> None:
        if self._path is None:
            raise RuntimeError(f"'{event}' was reported before the run was started")
        line = json.dumps(
            {"time": time.time(), "event": event, **_expressible(fields)}, allow_nan=False
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _expressible(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _expressible(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_expressible(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
