"""What methods have made of the examples they remember: originals, edited, and differences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.report.results import ExperimentResults, ReportError
from avalanche_ext.report.table import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

Arrays = Mapping[str, NDArray[Any]]

MOST_COLUMNS = 10
ROWS = ("original", "edited", "difference")
ARRAYS = ("label", "n_edits", "original", "edited")


def edits_figure(results: ExperimentResults, directory: Path) -> Figure | None:
    """Remembered examples before and after editing, as in Figure 5 of Jin, Du and Ren (2021).

    Of each method whose first finished run has an edits.npz, a block of three rows is drawn:
    originals, edited and their differences (means over the channels), the latter in a colour scale
    of the block's own with 0 in its middle. Columns are the file's first ten slots. A file that
    comes from another configuration than the result is passed over.

    Args:
        results: Results of the experiment.
        directory: The experiment's folder, in which they lie.

    Returns:
        A figure without a window; None where no method has edited anything.

    Raises:
        ReportError: If an edits.npz cannot be read.
    """
    from matplotlib.figure import Figure

    blocks = {}
    for method in results.finished:
        seed = next(iter(method.cells))
        edits = _read_edits(directory / method.name / f"seed-{seed}")
        if edits and len(edits["label"]):
            blocks[f"{method.name}, seed {seed}: edited memory"] = edits
    if not blocks:
        return None
    n_columns = max(len(edits["label"]) for edits in blocks.values())
    figure = Figure(
        figsize=(max(4.5, 0.95 * n_columns + 1.9), 3.5 * len(blocks)), layout="constrained"
    )
    parts = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for part, (title, edits) in zip(parts, blocks.items(), strict=True):
        _draw(part, title, edits, n_columns)
    return figure


def _read_edits(folder: Path) -> Arrays | None:
    """Read the exhibit in a finished run's folder, if there is one and it is that of the run."""
    path = folder / "edits.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            arrays = {name: file[name][:MOST_COLUMNS] for name in ARRAYS}
            made_by = str(file["hash"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ReportError(f"{path}: unreadable, remove it or run again: {error}") from error
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return arrays if made_by == result["hash"] else None


def _draw(part: SubFigure, title: str, edits: Arrays, n_columns: int) -> None:
    differences = (edits["edited"] - edits["original"]).mean(axis=1)
    reach = np.abs(differences[np.isfinite(differences)]).max(initial=0.0) or 1.0
    grid = part.subplots(len(ROWS), n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(name)
    for i, (label, n_edits) in enumerate(zip(edits["label"], edits["n_edits"], strict=True)):
        grid[0, i].set_title(f"label {label}\n{count(int(n_edits), 'edit')}", fontsize=9)
        for axes, name in zip(grid[:, i], ROWS[:2], strict=False):
            image = np.moveaxis(edits[name][i], 0, -1).clip(0.0, 1.0)
            axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
        drawn = grid[2, i].imshow(differences[i], cmap="RdBu_r", vmin=-reach, vmax=reach)
    part.suptitle(title)
    part.colorbar(drawn, ax=grid, label="difference", aspect=30)
