"""A number of each method in its own row, on an axis scaled to show the differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from avalanche_ext.report.layout import number
from avalanche_ext.results.cell import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 0.21
"""Inches of a row."""

SMALL = 8
"""Font size in points of texts that are numerous or should not stand out."""

_MARGIN = 0.06
"""The free share of an axis beyond the values, at each end."""


@dataclass(frozen=True)
class Span:
    """A mean with its smallest and largest value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A method's number.

    Attributes:
        name: The method's name.
        mean: The number.
        bar: The ends of the bar around it.
        text: The text of its point on a page.
        style: The colour and marker of the method.
        is_filled: Whether its marker is.
        values: Single values in addition to the mean, (n,).
        texts: Their texts, (n,).
    """

    name: str
    mean: float
    bar: tuple[float, float]
    text: str
    style: Mapping[str, Any]
    is_filled: bool = True
    values: Sequence[float] = ()
    texts: Sequence[str] = ()

    @property
    def span(self) -> Span:
        """The range of everything drawn in the row."""
        return Span(self.mean, min(*self.bar, *self.values), max(*self.bar, *self.values))


def draw_rows(
    axes: Axes, rows: Sequence[Row], beside: Mapping[str, Span] | None = None, signed: bool = False
) -> None:
    """Draw rows, the largest number on top, with the methods' names on the right.

    The axis is scaled to show the differences. If a method's mean lies far from the others', its
    row gives the mean as text instead.

    Args:
        axes: The matplotlib axes to draw on.
        rows: The rows, at least one.
        beside: Further values on the axis, by name, such as the baseline.
        signed: Whether means in words have a plus sign.
    """
    from avalanche_ext.report.series import Series

    rows = sorted(rows, key=lambda row: row.mean)
    spans = {**(beside or {}), **{row.name: row.span for row in rows}}
    near = comparable(spans)
    low, high = limits([spans[name] for name in near])
    shown = [(y, row) for y, row in enumerate(rows) if row.name in near]
    for y, row in enumerate(rows):
        if row.name not in near:
            _name_mean(axes, y, row, row.mean < low, signed)
    for y, row in shown:
        face = {} if row.is_filled else {"markerfacecolor": "white"}
        axes.add_line(Series([row.mean], [y], [row.text], ls="", zorder=3, **row.style, **face))
    _draw_singles(axes, shown)
    lows, highs = zip(*(row.bar for _, row in shown), strict=True)
    colours = [row.style["color"] for _, row in shown]
    axes.hlines([y for y, _ in shown], lows, highs, colors=colours)
    axes.yaxis.tick_right()
    axes.set_yticks(
        range(len(rows)), [row.name for row in rows], fontsize=SMALL if len(rows) > 8 else 10
    )
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(row.style["color"])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=6, min_n_ticks=3)
    axes.grid(alpha=0.3)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_singles(axes: Axes, shown: Sequence[tuple[int, Row]]) -> None:
    """Draw the single values of rows and their texts, all at once, since there may be many."""
    from avalanche_ext.report.series import Series

    x = [value for _, row in shown for value in row.values]
    if not x:
        return
    y = [y for y, row in shown for _ in row.values]
    texts = [text for _, row in shown for text in row.texts]
    colours = [row.style["color"] for _, row in shown for _ in row.values]
    axes.scatter(x, y, s=36, c=colours, marker="|", alpha=0.6, linewidths=1.0)
    axes.add_line(Series(x, y, texts, ls="", marker=""))


def _name_mean(axes: Axes, y: int, row: Row, is_below: bool, signed: bool) -> None:
    """Write the mean of a row whose point lies off the axis, at the nearer end."""
    text = number(row.mean, signed=signed)
    axes.annotate(
        f"◂ {text}" if is_below else f"{text} ▸",
        (0.01 if is_below else 0.99, y),
        xycoords=axes.get_yaxis_transform(),
        va="center",
        ha="left" if is_below else "right",
        color=row.style["color"],
        fontsize=SMALL,
    )


def span(values: Floats) -> Span:
    """Return the mean of values, (n,), and the range of everything drawn: ± std, and each value."""
    mean = float(values.mean())
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Span(mean, min(mean - std, float(values.min())), max(mean + std, float(values.max())))


def comparable(spans: Mapping[str, Span]) -> list[str]:
    """Return the methods whose means remain distinguishable on one axis.

    The others are far outliers, each of which would more than double the length of the axis.
    """
    least, greatest = usual_range([each.mean for each in spans.values()])
    low, high = limits([each for each in spans.values() if least <= each.mean <= greatest])
    length = high - low
    return [name for name, each in spans.items() if low - length <= each.mean <= high + length]


def limits(spans: Sequence[Span]) -> tuple[float, float]:
    """The limits of an axis that shows spans, with a margin."""
    low, high = min(each.low for each in spans), max(each.high for each in spans)
    margin = _MARGIN * (high - low) or 0.02
    return low - margin, high + margin


def usual_range(values: ArrayLike) -> tuple[Any, Any]:
    """Return the limits beyond which a value is a far outlier, which would crowd all others.

    They are three interquartile ranges outside the quartiles (Tukey, 1977).

    Args:
        values: Numbers, (n,) or (n, d) for d ranges at once, n > 0.

    Returns:
        The smallest and the largest usual value, floats or (d,).
    """
    lower, upper = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.75], axis=0)
    reach = 3 * (upper - lower)
    return lower - reach, upper + reach
