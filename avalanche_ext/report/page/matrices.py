"""The transfer matrices of a page: their data, and a small picture of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.results.cell import Floats
from avalanche_ext.results.experiment import ExperimentResults

_MOST_CELLS = 60_000
"""Maximum number of cells of all matrices of an experiment, about 20 bytes each."""

_SHADES = 48


@dataclass(frozen=True)
class Matrices:
    """The mean transfer matrices of an experiment's methods.

    Attributes:
        methods: The methods' names; those trained iid are left out.
        rows: Accuracies in thousandths, first of the untrained model, then after each experience,
            (methods, T + 1, T).
        pictures: An element <svg> for each method.
        n_left_out: Number of methods that did not fit on the page.
        shades: The colours from 0 to 1.
    """

    methods: Sequence[str]
    rows: list[list[list[int]]]
    pictures: Sequence[str]
    n_left_out: int
    shades: Sequence[str]

    @property
    def length(self) -> int:
        """The number of experiences."""
        return len(self.rows[0]) - 1


def matrices(results: ExperimentResults) -> Matrices | None:
    """Return the matrices of the methods that fit on a page, in order; None if there are none."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    methods = [method for method in results.finished if not method.is_iid]
    if not methods:
        return None
    length = len(methods[0].matrices[0])
    most = max(1, _MOST_CELLS // (length * (length + 1)))
    shown = methods[:most]
    means = [
        np.vstack(
            [
                np.mean([cell.untrained for cell in method.cells.values()], axis=0),
                method.matrices.mean(axis=0),
            ]
        )
        for method in shown
    ]
    shades = [to_hex(shade) for shade in colormaps["viridis"](np.linspace(0.0, 1.0, _SHADES))]
    return Matrices(
        methods=[method.name for method in shown],
        rows=[np.rint(1000 * mean).astype(int).tolist() for mean in means],
        pictures=[
            _picture(mean, shades, method.name) for mean, method in zip(means, shown, strict=True)
        ],
        n_left_out=len(methods) - len(shown),
        shades=shades,
    )


def _picture(rows: Floats, shades: Sequence[str], name: str) -> str:
    """Return the cells as one path per shade, with a gap below the untrained model's row."""
    from markupsafe import escape

    length = rows.shape[1]
    cells: dict[int, list[str]] = {}
    for (i, j), value in np.ndenumerate(rows):
        y = i + 0.25 if i else 0
        cells.setdefault(round(value * (len(shades) - 1)), []).append(f"M{j} {y:g}h1v1h-1z")
    paths = "".join(
        f'<path fill="{shades[shade]}" d="{"".join(each)}"/>' for shade, each in cells.items()
    )
    label = f"Transfer matrix of {escape(name)}; the slider above shows each row as numbers"
    return (
        f'<svg class="matrix" viewBox="0 0 {length} {length + 1.25}" role="img" '
        f'aria-label="{label}" shape-rendering="crispEdges">{paths}</svg>'
    )
