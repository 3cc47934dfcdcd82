"""The transfer matrix R as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MOST_WRITTEN_OUT = 10
"""The maximum number of experiences for which the cells show their numbers."""

UNTRAINED = "untrained"
"""The name of the row before the first experience."""

# Below about this value, viridis is too dark for black text.
_LIGHT_FROM = 0.55


def draw_matrix(axes: Axes, R: ArrayLike, untrained: ArrayLike | None = None) -> AxesImage:
    """Draw R as a heatmap, one row per experience trained on, one column per test experience.

    Experiences are counted from 1. The colour scale runs from 0 to 1 in every picture, so that
    pictures can be compared, and its colours remain distinct in print and for colour-blind readers.
    Matrices up to 10 x 10 show their numbers.

    Args:
        axes: The matplotlib axes to draw on.
        R: Accuracies in [0, 1], (t, T).
        untrained: Accuracies of the untrained model in [0, 1], (T,), shown in a row above R, the
            reference for forward transfer; None leaves it out.

    Returns:
        The drawn image, for a colour bar.
    """
    R = np.asarray(R, dtype=np.float64)
    first = 1
    if untrained is not None:
        R, first = np.vstack([untrained, R]), 0
    rows, columns = first + len(R) - 1, R.shape[1]
    extent = (0.5, columns + 0.5, rows + 0.5, first - 0.5)
    image = axes.imshow(R, cmap="viridis", vmin=0.0, vmax=1.0, extent=extent)
    if not first:
        axes.axhline(0.5, color="white", linewidth=2)
    axes.set_xlabel("accuracy on test experience")
    axes.set_ylabel("after training on experience")
    step = -(-columns // MOST_WRITTEN_OUT)
    axes.set_xticks(range(1, columns + 1, step))
    ticks = [*range(1, rows + 1, step)]
    axes.set_yticks(ticks)
    if not first:
        axes.set_yticks([0, *ticks], [UNTRAINED, *map(str, ticks)])
    if columns <= MOST_WRITTEN_OUT:
        for (i, j), accuracy in np.ndenumerate(R):
            colour = "black" if accuracy > _LIGHT_FROM else "white"
            text = f"{accuracy:.2f}"
            axes.text(j + 1, first + i, text, ha="center", va="center", color=colour, fontsize=8)
    return image
