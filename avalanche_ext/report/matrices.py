"""The picture of mean transfer matrices, one per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from avalanche_ext.metrics.heatmap import draw_matrix
from avalanche_ext.report.rows import SMALL
from avalanche_ext.report.style import chosen_on_test, measured_on, set_title
from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_WITH_TEXTS = 12
"""Maximum number of methods whose matrices have their own axes, with numbers."""

_GAP = 0.3
"""The space between small matrices, and above each for its name, in widths of a matrix."""

_CHARACTERS = 22
"""Number of characters of a name that fit above a small matrix."""


def matrices_figure(results: ExperimentResults) -> Figure | None:
    """The transfer matrix R of each method, averaged over its finished runs, in one colour scale.

    The top row shows the untrained model, the reference for FWT. Methods trained iid are left out.
    For a swept method, the setting with the highest mean ACC is drawn. With more than
    MOST_WITH_TEXTS methods, matrices are small, without numbers and ticks.

    Args:
        results: Results of the experiment.

    Returns:
        A figure without a window; `savefig` writes it. None if there is no matrix to draw.
    """
    from matplotlib.figure import Figure

    methods = [method for method in results.with_best_settings().finished if not method.is_iid]
    if not methods:
        return None
    columns = len(methods) if len(methods) <= 3 else math.ceil(math.sqrt(len(methods)))
    rows = math.ceil(len(methods) / columns)
    has_texts = len(methods) <= MOST_WITH_TEXTS
    width, height = (3.6, 4.0) if has_texts else (1.2, 1.5)
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.4), layout="compressed")
    untrained = [
        np.mean([cell.untrained for cell in method.cells.values()], axis=0) for method in methods
    ]
    means = [method.matrices.mean(axis=0) for method in methods]
    if has_texts:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, method, R, before in zip(grid.flat, methods, means, untrained, strict=False):
            image = draw_matrix(axes, R, before)
            axes.set_title(f"{method.name}, mean of {count(len(method.cells), 'run')}")
        for unused in grid.flat[len(methods) :]:
            unused.set_visible(False)
    else:
        axes = figure.subplots()
        stacked = [np.vstack([before, R]) for R, before in zip(means, untrained, strict=True)]
        image = _draw_small(axes, stacked, [method.name for method in methods], columns)
    title = f"{results.name}{measured_on(results)}: transfer matrix R"
    axes_of = "rows: untrained, then after each experience; columns: test experiences"
    set_title(figure, title, [*([] if has_texts else [axes_of]), *chosen_on_test(results)])
    figure.colorbar(image, ax=figure.axes, label="accuracy", aspect=30)
    return figure


def _draw_small(
    axes: Axes, matrices: Sequence[Floats], names: Sequence[str], columns: int
) -> AxesImage:
    """Draw matrices as one image, since separate axes for each would take most of a report's time.

    Args:
        axes: The axes, which lose their frame.
        matrices: For each method the row of the untrained model with R below, (t + 1, T).
        names: Their names.
        columns: Number of matrices in a row.

    Returns:
        The drawn image, for a colour bar.
    """
    height, width = matrices[0].shape
    gap = max(1, round(_GAP * width))
    rows = math.ceil(len(matrices) / columns)
    sheet = np.full((rows * (height + 1 + gap), columns * (width + gap) - gap), np.nan)
    for place, (R, name) in enumerate(zip(matrices, names, strict=True)):
        top, left = (place // columns) * (height + 1 + gap) + gap, (place % columns) * (width + gap)
        sheet[top, left : left + width] = R[0]
        # One empty row separates the untrained model from the rest.
        sheet[top + 2 : top + 1 + height, left : left + width] = R[1:]
        shown = name if len(name) <= _CHARACTERS else f"{name[: _CHARACTERS - 1]}…"
        axes.text(
            left + (width - 1) / 2, top - 0.8, shown, ha="center", va="bottom", fontsize=SMALL
        )
    axes.set_axis_off()
    return axes.imshow(sheet, cmap="viridis", vmin=0.0, vmax=1.0, interpolation="nearest")
