"""The picture of edited examples: originals, edited, and differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avalanche_ext.report.style import set_title
from avalanche_ext.results.exhibits import Edits
from avalanche_ext.results.experiment import Exhibits
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

MOST_COLUMNS = 10
ROWS = ("original", "edited", "difference")
_COLOURED = 3


def edits_figure(edits: Exhibits[Edits], notes: Sequence[str] = ()) -> Figure | None:
    """Remembered examples before and after editing, as in Figure 5 of Jin, Du and Ren (2021).

    Each run has a block of three rows: originals, edited examples, and differences (means over
    channels). Each block has its own colour scale of differences, centred on 0. Columns are the
    file's first ten slots. Their titles give the length of the change, since the scale hides small
    ones.

    Args:
        edits: The experiment's edits, of one run per method.
        notes: Sentences below the first title.

    Returns:
        A figure without a window; None if no method has edited anything.
    """
    from matplotlib.figure import Figure

    blocks = {
        f"{method}, seed {seed}": kept
        for method, runs in edits.methods.items()
        for seed, kept in runs.items()
        if len(kept.label)
    }
    if not blocks:
        return None
    n_columns = min(MOST_COLUMNS, max(len(kept.label) for kept in blocks.values()))
    figure = Figure(
        figsize=(max(4.5, 1.1 * n_columns + 1.9), 3.7 * len(blocks)), layout="constrained"
    )
    parts = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for part, (run, kept) in zip(parts, blocks.items(), strict=True):
        _draw(part, kept, n_columns)
        title = f"{run}: edited memory samples (label; edits, size of the change ‖x′ − x‖₂)"
        set_title(part, title, notes if part is parts[0] else ())
    return figure


def _draw(part: SubFigure, edits: Edits, n_columns: int) -> None:
    images = {"original": edits.original[:n_columns], "edited": edits.edited[:n_columns]}
    changes = images["edited"] - images["original"]
    lengths = np.sqrt((changes**2).sum(axis=(1, 2, 3)))
    differences = changes.mean(axis=1)
    reach = np.abs(differences[np.isfinite(differences)]).max(initial=0.0) or 1.0
    grid = part.subplots(len(ROWS), n_columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, name in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(name)
    for i, length in enumerate(lengths):
        n = count(int(edits.n_edits[i]), "edit")
        grid[0, i].set_title(f"label {edits.label[i]}\n{n}, {length:.2g}", fontsize=8)
        for axes, name in zip(grid[:, i], images, strict=False):
            axes.imshow(_image(images[name][i]), cmap="gray", vmin=0.0, vmax=1.0)
        drawn = grid[2, i].imshow(differences[i], cmap="RdBu_r", vmin=-reach, vmax=reach)
    part.colorbar(drawn, ax=grid, label="difference", aspect=30)


def _image(channels: NDArray[Any]) -> NDArray[Any]:
    """Colours of three channels, (H, W, 3); else greys, the means over the channels, (H, W)."""
    if len(channels) == _COLOURED:
        return np.moveaxis(channels, 0, -1).clip(0.0, 1.0)
    grey: NDArray[Any] = channels.mean(axis=0).clip(0.0, 1.0)
    return grey
