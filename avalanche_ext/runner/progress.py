"""Progress of a grid: a bar with the remaining time, or a line for each finished cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from avalanche_ext.config import Cell
from avalanche_ext.results.cell import CellResult, read_cell, read_events
from avalanche_ext.results.files import EVENTS, printable

QUIET, NORMAL, VERBOSE = -1, 0, 1
"""How much a grid prints while it runs."""

_SECONDS_BETWEEN_LOOKS = 1.0
_BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"


class Progress:
    """Shows how many cells of a grid have finished, and counts running ones by their experiences.

    It is a bar on a terminal and in Jupyter, otherwise a line on stderr for each finished cell.
    Workers may be on other machines and share only the results folder with this process, so the
    progress of running cells is read from there.

    Args:
        cells: The cells that will run.
        out: Folder of all results.
        verbosity: QUIET shows nothing; VERBOSE prints lines in addition to the bar, and one for
            each cell that starts or resumes from a checkpoint.
    """

    def __init__(self, cells: Sequence[Cell], out: Path, verbosity: int = NORMAL) -> None:
        self._out = out
        self._total = len(cells)
        self._n_ended = 0
        self._is_quiet = verbosity <= QUIET
        is_watched = sys.stderr.isatty() or _is_in_notebook()
        self._has_lines = verbosity > NORMAL or (verbosity == NORMAL and not is_watched)
        self._has_bar = verbosity > QUIET and is_watched and self._total > 0
        self._says_begins = verbosity > NORMAL
        self._running = {cell.directory(out): cell for cell in cells}
        self._shares: dict[Path, float] = {}
        """The finished share of each running cell, from 0 to 1."""
        self._since = time.time()
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        if self._has_bar:
            self._bar: tqdm[Any] = tqdm(
                desc=f"0 of {self._total} cells",
                total=self._total,
                bar_format=_BAR,
                leave=False,
            )
        if self._has_bar or self._says_begins:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._has_bar:
            self._bar.close()

    def ended(self, cell: Cell, error: str | None = None) -> None:
        """Show that a cell has finished, with the error if it has failed."""
        folder = cell.directory(self._out)
        self._n_ended += 1
        self._running.pop(folder, None)
        self._shares.pop(folder, None)
        if self._has_lines:
            told = _result(folder, cell.hash) if error is None else f"failed: {error}"
            self.say(f"{_name(cell)}: {told} ({self._n_ended} of {self._total})")
        if self._has_bar:
            self._refresh()

    def say(self, line: str) -> None:
        """Write a line to stderr, above the bar if there is one; nothing in quiet mode."""
        if self._is_quiet:
            return
        if self._has_bar:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _watch(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            for folder, cell in [*self._running.items()]:
                if _written_at(folder / EVENTS) >= self._since:
                    self._look_at(cell, folder)
            if self._has_bar:
                self._refresh()

    def _look_at(self, cell: Cell, folder: Path) -> None:
        events = read_events(folder, since=0.0)
        if not events or events[0].get("event") != "start":
            return
        n_learned = sum(_number(event.get("experience"), -1) >= 0 for event in events)
        n_experiences = _number(events[0].get("n_experiences"))  # 0 if it depends on the data.
        share = min(n_learned / n_experiences, 1.0) if n_experiences > 0 else 0.0
        if folder not in self._shares:
            is_resumed = events[0]["time"] < self._since
            if self._has_bar and is_resumed:
                self._bar.initial += share  # That part took no time in this command.
            if self._says_begins:
                place = f"resumes at {_place(n_learned, n_experiences)}"
                self.say(f"{_name(cell)}: {place if is_resumed else 'starts'}")
        self._shares[folder] = share

    def _refresh(self) -> None:
        # Counts fractions of cells, so that the remaining time is right.
        shares = sum(share for folder, share in [*self._shares.items()] if folder in self._running)
        self._bar.set_description_str(f"{self._n_ended} of {self._total} cells", refresh=False)
        self._bar.n = round(self._n_ended + shares, 2)
        self._bar.refresh()


def _is_in_notebook() -> bool:
    """Return whether this is a notebook, even if libraries have imported parts of Jupyter."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _number(value: Any, default: int = 0) -> int:
    """Return a whole number from a file that may be damaged."""
    return value if isinstance(value, int) else default


def _place(n_learned: int, n_experiences: int) -> str:
    if n_experiences <= 0:
        return f"experience {n_learned + 1}"
    return f"experience {min(n_learned + 1, n_experiences)} of {n_experiences}"


def _name(cell: Cell) -> str:
    return f"{cell.method_name} seed {cell.seed}"


def _result(folder: Path, cell_hash: str) -> str:
    try:
        result = read_cell(folder, cell_hash)
    except (OSError, ValueError) as error:
        return f"unreadable result ({printable(error)})"
    if not isinstance(result, CellResult):
        return "no result"
    return f"ACC {result.metrics['ACC']:.3f}, {result.seconds['total']:.1f} s"
