"""A worker's handling of one cell of a grid that others may be running too."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

from avalanche_ext.config import Cell
from avalanche_ext.results.claims import ClaimedError, claimed, look_again
from avalanche_ext.results.files import one_line

Ended = Literal["done", "found", "failed", "claimed"]


def run_claimed(cell: Cell, out: Path, data_root: Path | None) -> tuple[Ended, str]:
    """Run a cell if nobody else is running it or has done so.

    Args:
        cell: What to run.
        out: Folder of all results, shared by all commands of the grid.
        data_root: Folder of the data.

    Returns:
        "done" if the cell was run, "found" if another process has finished it, "failed", or
        "claimed" by another process; and for the last two, the reason in one line.
    """
    files = cell.files(out)
    try:
        with claimed(files.claim):
            return _run(cell, out, data_root)
    except ClaimedError as error:
        return "claimed", str(error)
    except Exception as error:  # Claiming failed, and without a claim nothing may be written.
        with suppress(OSError):
            if files.has_result():
                return "found", ""
        return "failed", one_line(error)


def _run(cell: Cell, out: Path, data_root: Path | None) -> tuple[Ended, str]:
    """Run a cell whose claim this process holds."""
    from avalanche_ext.runner.cell import run_cell
    from avalanche_ext.runner.preflight import notes

    for category in notes():
        warnings.simplefilter("ignore", category)
    files = cell.files(out)
    look_again(files.folder)
    try:
        # Another command may since have run this cell with another configuration.
        files.bring_back()
        if files.is_done():
            return "found", ""
        if run_cell(cell, out, data_root) == "failed":
            return "failed", files.failure()
    except Exception as error:  # The folder is at fault: a cell writes its own errors.
        with suppress(OSError):  # Do not write a failure next to an unreadable result.
            if files.has_result():
                return "found", ""
            files.write_failure(one_line(error))
        return "failed", one_line(error)
    return "done", ""
