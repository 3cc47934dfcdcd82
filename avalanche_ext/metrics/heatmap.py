"""The transfer matrix R as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MOST_WRITTEN_OUT = 10
"""The most experiences of a matrix that is drawn with the number in each cell."""

# Below about this value, viridis is too dark for black text.
_LIGHT_FROM = 0.55


def draw_matrix(axes: Axes, R: ArrayLike) -> AxesImage:
    """Draw R as a heatmap, one row per experience trained on, one column per test experience.

    Colours run from 0 to 1 in every picture, so that pictures can be compared, and differ in print
    and for colour-blind readers. Matrices up to 10 x 10 show their numbers.

    Args:
        axes: The matplotlib axes to draw on.
        R: Accuracies in [0, 1], (t, T).

    Returns:
        The drawn image, for a colour bar.
    """
    R = np.asarray(R, dtype=np.float64)
    rows, columns = R.shape
    image = axes.imshow(R, cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set_xlabel("accuracy on test experience")
    axes.set_ylabel("after training on experience")
    if columns <= MOST_WRITTEN_OUT:
        axes.set_xticks(range(columns))
        axes.set_yticks(range(rows))
        for (i, j), accuracy in np.ndenumerate(R):
            colour = "black" if accuracy > _LIGHT_FROM else "white"
            axes.text(j, i, f"{accuracy:.2f}", ha="center", va="center", color=colour, fontsize=8)
    else:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return image
