"""Numbers, tables and notes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from avalanche_ext.report.statistics import Estimate

NONE = "–"
"""The sign for an undefined number."""


def plus_minus(value: Estimate | None, decimals: int = 3, signed: bool = False) -> str:
    """Mean and standard deviation, or NONE."""
    if value is None:
        return NONE
    std = NONE if value.std is None else number(value.std, decimals)
    return f"{number(value.mean, decimals, signed)} ± {std}"


def number(value: float, decimals: int = 3, signed: bool = False) -> str:
    """A rounded number, with a plus sign if `signed`, and never "-0.000"."""
    rounded = round(value, decimals) + 0.0  # -0.0 + 0.0 is 0.0.
    return f"{rounded:{'+' if signed else ''}.{decimals}f}"


def p_value(value: float | None) -> str:
    """A p-value to three decimals, "<0.001" below that, or NONE."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def aligned(rows: Iterator[list[str]] | Sequence[list[str]]) -> list[str]:
    """A table as lines, one a row, in columns two spaces apart."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def count(n: int, noun: str) -> str:
    """A number with its noun, which takes an s in the plural."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def wrapped(text: str) -> list[str]:
    """A note as lines of at most 110 characters."""
    return textwrap.wrap(text, 110, break_on_hyphens=False)


def section(lines: Sequence[str]) -> str:
    """Lines as a section of the report, after an empty line."""
    return "\n" + "\n".join(lines) + "\n"
