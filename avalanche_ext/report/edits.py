"""What methods have made of the examples they remember: originals, edited, and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.report.exhibits import Arrays, Reader
from avalanche_ext.report.results import ExperimentResults
from avalanche_ext.report.table import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

MOST_COLUMNS = 10
ROWS = ("original", "edited", "difference")
ARRAYS = ("label", "n_edits", "original", "edited")
_IMAGES = 4
_COLOURED = 3


@dataclass
class Edits:
    """What an experiment's methods have made of the examples they remember.

    Attributes:
        blocks: The arrays of each method's first finished run, by the text to stand above them.
        unreadable: What is wrong with files, by their paths in the experiment's folder.
    """

    blocks: dict[str, Arrays] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def read_edits(results: ExperimentResults, directory: Path) -> Edits:
    """Read the edits.npz of each method's first finished run, where it has one.

    A file that comes from another configuration than the result is passed over.

    Args:
        results: Results of the experiment.
        directory: The experiment's folder, in which they lie.
    """
    reader = Reader(directory, "edits", _checked)
    blocks = {}
    for method in results.finished:
        seed = next(iter(method.cells))
        arrays = reader.read(method.name, seed)
        if arrays and len(arrays["label"]):
            blocks[f"{method.name}, seed {seed}: edited memory"] = arrays
    return Edits(blocks, reader.unreadable)


def edits_figure(edits: Edits) -> Figure | None:
    """Remembered examples before and after editing, as in Figure 5 of Jin, Du and Ren (2021).

    Each block has three rows: originals, edited and their differences (means over the channels),
    the latter in a colour scale of the block's own with 0 in its middle. Columns are the file's
    first ten slots; their titles tell the length of the change, since one scale hides small ones.

    Args:
        edits: `read_edits` of the experiment.

    Returns:
        A figure without a window; None where no method has edited anything.
    """
    from matplotlib.figure import Figure

    if not edits.blocks:
        return None
    n_columns = max(len(arrays["label"]) for arrays in edits.blocks.values())
    figure = Figure(
        figsize=(max(4.5, 1.1 * n_columns + 1.9), 3.7 * len(edits.blocks)), layout="constrained"
    )
    parts = figure.subfigures(len(edits.blocks), 1, squeeze=False)[:, 0]
    for part, (title, arrays) in zip(parts, edits.blocks.items(), strict=True):
        _draw(part, title, arrays, n_columns)
    return figure


def _checked(arrays: Arrays) -> Arrays:
    """Return of each array the first slots.

    Raises:
        Exception: If the arrays do not go together.
    """
    arrays = {name: arrays[name] for name in ARRAYS}
    original, edited = arrays["original"], arrays["edited"]
    if original.ndim != _IMAGES or original.shape != edited.shape:
        raise ValueError(f"original has shape {original.shape}, edited {edited.shape}")
    if not len(arrays["label"]) == len(arrays["n_edits"]) == len(original):
        raise ValueError("arrays have different lengths")
    return {name: array[:MOST_COLUMNS] for name, array in arrays.items()}


def _draw(part: SubFigure, title: str, edits: Arrays, n_columns: int) -> None:
    changes = edits["edited"] - edits["original"]
    lengths = np.sqrt((changes**2).sum(axis=(1, 2, 3)))
    differences = changes.mean(axis=1)
    reach = np.abs(differences[np.isfinite(differences)]).max(initial=0.0) or 1.0
    grid = part.subplots(len(ROWS), n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(name)
    for i, (label, n_edits) in enumerate(zip(edits["label"], edits["n_edits"], strict=True)):
        n = count(int(n_edits), "edit")
        grid[0, i].set_title(f"label {label}\n{n}, {lengths[i]:.2g}", fontsize=8)
        for axes, name in zip(grid[:, i], ROWS[:2], strict=False):
            axes.imshow(_image(edits[name][i]), cmap="gray", vmin=0.0, vmax=1.0)
        drawn = grid[2, i].imshow(differences[i], cmap="RdBu_r", vmin=-reach, vmax=reach)
    part.suptitle(f"{title} (label; edits, length of the change ‖x′ − x‖₂)")
    part.colorbar(drawn, ax=grid, label="difference", aspect=30)


def _image(channels: NDArray[Any]) -> NDArray[Any]:
    """Colours of three channels, (H, W, 3); else greys, the means over the channels, (H, W)."""
    if len(channels) == _COLOURED:
        return np.moveaxis(channels, 0, -1).clip(0.0, 1.0)
    grey: NDArray[Any] = channels.mean(axis=0).clip(0.0, 1.0)
    return grey
