"""Numbers, tables and notes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from avalanche_ext.report.estimates import Estimate

NONE = "–"
"""The sign for an undefined number."""


def plus_minus(value: Estimate | None, decimals: int = 3, signed: bool = False) -> str:
    """Mean and standard deviation, the mean alone of a single value, or NONE."""
    if value is None:
        return NONE
    mean = number(value.mean, decimals, signed)
    return mean if value.std is None else f"{mean} ± {number(value.std, decimals)}"


def number(value: float, decimals: int = 3, signed: bool = False) -> str:
    """A rounded number, with a plus sign if `signed`, and never "-0.000"."""
    rounded = round(value, decimals) + 0.0  # -0.0 + 0.0 is 0.0.
    return f"{rounded:{'+' if signed else ''}.{decimals}f}"


def short(value: float) -> str:
    """A positive number to about three digits.

    >>> short(0.256), short(25.63), short(1025.6)
    ('0.26', '25.6', '1026')
    """
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def p_value(value: float | None) -> str:
    """A p-value to three decimals, "<0.001" below that, or NONE."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def p_text(value: float | None) -> str:
    """A p-value in a sentence.

    >>> p_text(0.0184), p_text(0.00001)
    ('p = 0.018', 'p < 0.001')
    """
    text = p_value(value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines, one a row, in columns two spaces apart."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def to_the_right(cells: Sequence[str]) -> list[str]:
    """Cells of one width, aligned to the right."""
    width = max(map(len, cells))
    return [cell.rjust(width) for cell in cells]


def wrapped(text: str) -> list[str]:
    """A note as lines of at most 110 characters."""
    return textwrap.wrap(text, 110, break_on_hyphens=False)


def section(lines: Sequence[str]) -> str:
    """Lines as a section of the report, after an empty line."""
    return "\n" + "\n".join(lines) + "\n"
