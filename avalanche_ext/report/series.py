"""Lines whose points have texts, which a page shows under the mouse pointer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike


class Series(Line2D):
    """A line of matplotlib's with a text for each of its points.

    Attributes:
        texts: What a point says of itself, (k,).
    """

    def __init__(self, x: ArrayLike, y: ArrayLike, texts: Sequence[str], **style: Any) -> None:
        super().__init__(np.asarray(x), np.asarray(y), **style)
        n_points = np.size(x)
        if len(texts) != n_points:
            raise ValueError(
                f"each point needs a text, but there are {n_points} points and {len(texts)} texts"
            )
        self.texts = tuple(texts)
