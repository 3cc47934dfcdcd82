"""Numbers, tables and notes as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from avalanche_ext.report.statistics import Estimate

NONE = "–"
"""What stands for a number that is undefined."""


def plus_minus(value: Estimate | None, decimals: int = 3, signed: bool = False) -> str:
    """Mean and standard deviation, or NONE."""
    if value is None:
        return NONE
    std = NONE if value.std is None else number(value.std, decimals)
    return f"{number(value.mean, decimals, signed)} ± {std}"


def number(value: float, decimals: int = 3, signed: bool = False) -> str:
    """The rounded number; with `signed` also a plus sign, but never a sign of a negative zero."""
    rounded = round(value, decimals) + 0.0  # -0.0 + 0.0 is 0.0: no "-0.000"
    return f"{rounded:{'+' if signed else ''}.{decimals}f}"


def p_value(value: float | None) -> str:
    """Three decimals, or the bound below which they say nothing."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def aligned(rows: Iterator[list[str]] | Sequence[list[str]]) -> list[str]:
    """A line for each row, in columns two spaces apart."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def count(n: int, noun: str) -> str:
    """The number with its noun, in the plural where it needs one."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def wrapped(text: str) -> list[str]:
    """A note as lines of at most 110 characters."""
    return textwrap.wrap(text, 110, break_on_hyphens=False)


def section(lines: Sequence[str]) -> str:
    """Lines as a section of the report, after an empty line."""
    return "\n" + "\n".join(lines) + "\n"
