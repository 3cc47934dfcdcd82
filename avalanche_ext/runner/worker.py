"""What a worker does with one cell of a grid that others may be running too."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from avalanche_ext.config import Cell
from avalanche_ext.results.claims import ClaimedError, claimed

Ended = Literal["done", "found", "failed", "claimed"]


def run_claimed(cell: Cell, out: Path, data_root: Path | None) -> tuple[Ended, str]:
    """Run a cell if nobody else is running it or has done so.

    Args:
        cell: What to run.
        out: Folder of all results, which all who share the grid see.
        data_root: Folder of the data.

    Returns:
        Whether the cell is "done", was "found" to be done by somebody else, has "failed", or is
        "claimed" by somebody else; and for the last two, why in one line.
    """
    from avalanche_ext.runner.cell import run_cell

    files = cell.files(out)
    try:
        with claimed(files.claim):
            # Another command may have run another configuration of this cell after it.
            files.bring_back()
            if files.is_done():
                return "found", ""
            if run_cell(cell, out, data_root) == "failed":
                return "failed", files.failure()
    except ClaimedError as error:
        return "claimed", str(error)
    except Exception as error:  # Of the claim or of the folder: a cell's own are written already.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if files.has_result():
            return "found", ""
        with suppress(OSError):
            files.write_failure(reason)
        return "failed", reason
    return "done", ""
