"""Matplotlib's pictures as SVG in a page, in its colours, with texts for points."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from avalanche_ext.report.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK = "#123456"
"""A colour used in no picture, which stands for the colour of the page's text."""

_PAPER = "#ffffff"

_POINTS_PER_INCH = 72

_MOST_ENLARGED = 1.8
"""Maximum number of a page's pixels per point of a picture."""


@dataclass(frozen=True)
class Drawing:
    """A picture for a page.

    Attributes:
        svg: The element <svg>.
        points: x and y in its viewBox, and the text, for each point with a text.
    """

    svg: str
    points: list[tuple[float, float, str]]


def drawing(draw: Callable[[], Figure | None], name: str) -> Drawing | None:
    """Draw a picture for a page.

    Args:
        draw: Draws it; None if there is nothing to show.
        name: A name that no other picture of the page has.

    Returns:
        The picture, whose colours are the page's variables `--ink`, `--paper` and `--c0` to `--c6`.
    """
    from matplotlib import rc_context

    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": name,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    ):
        figure = draw()
        if figure is None:
            return None
        figure.set_dpi(_POINTS_PER_INCH)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        return Drawing(_for_page(file.getvalue()), _points(figure))


def _points(figure: Figure) -> list[tuple[float, float, str]]:
    """Return the points of all lines with texts; the figure must have been drawn."""
    from avalanche_ext.report.series import Series

    height = figure.bbox.height
    points = []
    for axes in figure.axes:
        for line in axes.get_lines():
            if isinstance(line, Series):
                places = line.get_transform().transform(line.get_xydata())
                points += [
                    (round(float(x), 1), round(float(height - y), 1), text)
                    for (x, y), text in zip(places, line.texts, strict=True)
                    if axes.bbox.padded(3).contains(x, y)
                ]
    return points


def _for_page(svg: str) -> str:
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' (xmlns:xlink|xmlns|version|width|height)="[^"]*"', "", svg, count=5)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<svg (?=.*?viewBox="0 0 ([\d.]+) )', _with_limit, svg, count=1)
    # Only markers and clip paths are referenced, and their ids are hashes.
    svg = re.sub(r' id="[A-Za-z.]+[A-Za-z0-9]*_\d+"', "", svg)
    # Not in texts, which are between > and <, nor in embedded images.
    svg = re.sub(r' (?:d|transform|x|y|points|style|clip-path)="[^"]*"', _shorter, svg)
    variables = {_INK: "var(--ink)", _PAPER: "var(--paper)"}
    variables |= {colour.lower(): f"var(--c{i})" for i, colour in enumerate(COLOURS)}
    svg = re.sub("|".join(variables), lambda found: variables[found[0]], svg)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _with_limit(start: re.Match[str]) -> str:
    """Limit the width of a picture, so that a narrow one does not fill the page."""
    return f'<svg style="max-width: {_MOST_ENLARGED * float(start[1]):.0f}px" '


def _shorter(attribute: re.Match[str]) -> str:
    """Round the numbers of an attribute to hundredths of a point."""
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", attribute[0])
