"""Progress of cells that run in other processes, read from the events they write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from tqdm import tqdm

from avalanche_ext.config import Cell
from avalanche_ext.results.cell import read_events

_SECONDS_BETWEEN_LOOKS = 0.5


class CellBars:
    """A bar for each running cell, which counts the experiences that it has learned.

    Workers may be on other machines and share nothing with this process but the result folder,
    so their progress is read there.

    Args:
        cells: The cells that are going to be run.
        out: Folder of all results.
        quiet: Show nothing.
    """

    def __init__(self, cells: Sequence[Cell], out: Path, quiet: bool) -> None:
        self._waiting = {
            cell.directory(out): f"{cell.method_name} seed {cell.seed}" for cell in cells
        }
        self._bars: dict[Path, tqdm[Any]] = {}
        self._since = time.time()
        self._stop = Event()
        self._thread = None if quiet else Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CellBars:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        for bar in self._bars.values():
            bar.close()

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            for folder in [*self._waiting]:
                self._show(folder, read_events(folder, self._since))

    def _show(self, folder: Path, events: list[dict[str, Any]]) -> None:
        if not events or events[0]["event"] != "start":
            return
        if folder not in self._bars:
            self._bars[folder] = tqdm(
                desc=self._waiting[folder],
                total=events[0]["n_experiences"],
                unit="exp",
                leave=False,
            )
        bar = self._bars[folder]
        bar.n = sum(event.get("experience", -1) >= 0 for event in events)
        bar.refresh()
        if events[-1]["event"] in ("finish", "failure"):
            self._bars.pop(folder).close()
            del self._waiting[folder]
