"""Labels beside points, placed where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_POINTS = 7
"""The height of the text."""

_DISTANCES = (5.0, 9.0)
"""Points between a marker's centre and the text."""

_MOST_CROSSINGS = 1
"""Maximum number of lines that may cross a text."""

_CLEARANCE = 2.0
"""Desired distance of lines from a text in pixels."""

_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
"""The sides of a point: above, below, right, left, and the corners between them."""


def place_labels(
    figure: Figure, axes: Axes, labels: Sequence[tuple[tuple[float, float], str, str]]
) -> list[Annotation]:
    """Write each text beside its point, clear of markers and other texts, across few lines.

    A text is left out if it would be unreadable in every place: over a marker or another text, or
    crossed by more than one line.

    Args:
        figure: The matplotlib figure, otherwise complete.
        axes: The axes of the figure to write on.
        labels: For each label its point in data coordinates, the text and its colour.

    Returns:
        The texts that were written.
    """
    figure.draw_without_rendering()  # Positions are known only after the layout.
    taken, lines = _markers(axes, pixels_per_point=figure.dpi / 72), _lines(axes)
    written = []
    for point, text, colour in labels:
        tried = {
            label: label.get_window_extent()
            for distance, side in product(_DISTANCES, _SIDES)
            for label in [_annotate(axes, point, text, colour, side, distance)]
        }
        free = [
            label
            for label, box in tried.items()
            if _contains(axes.bbox, box) and not box.count_overlaps(taken)
        ]
        crossings = {label: _crossings(tried[label], lines) for label in free}
        readable = [label for label in free if crossings[label][0] <= _MOST_CROSSINGS]
        best = min(readable, key=crossings.__getitem__, default=None)
        for label in tried:
            if label is not best:
                label.remove()
        if best:
            written.append(best)
            taken.append(tried[best])
    return written


def _annotate(
    axes: Axes,
    point: tuple[float, float],
    text: str,
    colour: str,
    side: tuple[int, int],
    distance: float,
) -> Annotation:
    right, up = side
    label = axes.annotate(
        text,
        point,
        xytext=(distance * right, distance * up),
        textcoords="offset points",
        ha={-1: "right", 0: "center", 1: "left"}[right],
        va={-1: "top", 0: "center", 1: "bottom"}[up],
        color=colour,
        fontsize=_POINTS,
        zorder=4,
    )
    label.set_in_layout(False)
    return label


def _markers(axes: Axes, pixels_per_point: float) -> list[Bbox]:
    """The boxes of all markers, in pixels."""
    from matplotlib.transforms import Bbox

    boxes = []
    for line in axes.get_lines():
        if line.get_marker() != "None":
            radius = line.get_markersize() * pixels_per_point / 2
            centres = line.get_transform().transform(line.get_xydata())
            boxes += [Bbox([centre - radius, centre + radius]) for centre in centres]
    return boxes


def _lines(axes: Axes) -> list[Path]:
    """All curves and error bars, in pixels."""
    curves = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    bars = [(bar, path) for bar in axes.collections for path in bar.get_paths()]
    return [
        *(line.get_transform().transform_path(line.get_path()) for line in curves),
        *(bar.get_transform().transform_path(path) for bar, path in bars),
    ]


def _contains(outer: Bbox, inner: Bbox) -> bool:
    return all(outer.contains(x, y) for x, y in (inner.min, inner.max))


def _crossings(box: Bbox, lines: Sequence[Path]) -> tuple[int, int]:
    """Count the lines that cross the box, and those that cross it or come close."""
    crossing, near = (
        sum(line.intersects_bbox(each, filled=False) for line in lines)
        for each in (box, box.padded(_CLEARANCE))
    )
    return crossing, near
