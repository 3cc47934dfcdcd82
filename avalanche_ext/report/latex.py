r"""Tables as LaTeX, with the rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from avalanche_ext.report.layout import NONE, wrapped
from avalanche_ext.report.sheet import Column, Sheet

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    NONE: "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_PREAMBLE = r"""% In the preamble: \usepackage{booktabs}
\providecommand{\seedstd}[1]{{\scriptstyle\,\pm\,#1}}"""
_TEXT_WIDTH = 345.0
"""Points of a line in LaTeX's plain article, which no table exceeds."""

_GAP = 8.0
"""Points between two columns."""

_LETTER, _SMALL_LETTER, _SIGNS = 4.8, 3.6, 7.5
"""Points of a letter or digit in a table, of one of a deviation, and of the sign ± before it."""

_MINUS = re.compile(r"(?<![^ (])-(?=[0-9 ])")
_NUMBERS = re.compile(r"[-+<0-9.,±/\[\] ]*[0-9][-+<0-9.,±/\[\] ]*")


def latex(sheets: Sequence[Sheet]) -> str:
    """Tables for a paper, with the best means bold; a line end after the last.

    Each is a `table` that needs only booktabs, and compiles with pdflatex. A table too wide for a
    page of the plain article class continues in a further one.
    """
    tables = ["\n".join(_lines(part)) for sheet in sheets for part in _parts(sheet)]
    return "\n\n".join([_PREAMBLE, *tables]) + "\n"


def _parts(sheet: Sheet) -> Iterator[Sheet]:
    """Divide a table by its columns into tables that fit on a page."""
    room = _TEXT_WIDTH - max(map(_width, [sheet.first, *sheet.methods])) - _GAP
    parts: list[list[Column]] = [[]]
    used = 0.0
    for column in sheet.columns:
        width = max(map(_width, [column.title, *column.cells])) + _GAP
        if used + width > room and parts[-1]:
            parts.append([])
            used = 0.0
        parts[-1].append(column)
        used += width
    yield replace(sheet, columns=parts[0])
    for number, columns in enumerate(parts[1:], start=2):
        yield replace(
            sheet,
            name=f"{sheet.name}-{number}",
            caption=f"{sheet.caption}, continued",
            columns=columns,
            notes=[],
            absent=[],
        )


def _width(text: str) -> float:
    """Return slightly more points than a cell takes."""
    mean, is_pair, std = text.partition(" ± ")
    return _LETTER * len(mean) + bool(is_pair) * (_SIGNS + _SMALL_LETTER * len(std))


def _lines(sheet: Sheet) -> Iterator[str]:
    for line in sheet.absent:
        yield f"% {line}"
    yield r"\begin{table}"
    yield r"  \centering"
    bold = sheet.on_best if any(column.best for column in sheet.columns) else ""
    caption = " ".join(filter(None, [f"{sheet.caption}.", *sheet.notes, bold]))
    first, *others = wrapped(_escaped(caption))
    yield f"  \\caption{{{first}"
    yield from (f"    {line}" for line in others)
    yield r"  }\medskip"
    yield f"  \\label{{tab:{sheet.name}}}"
    yield r"  \small"
    yield f"  \\setlength{{\\tabcolsep}}{{{_GAP / 2:g}pt}}"
    yield f"  \\begin{{tabular}}{{l{'r' * len(sheet.columns)}}}"
    yield r"    \toprule"
    yield _row([sheet.first, *(column.title for column in sheet.columns)])
    yield r"    \midrule"
    for place, name in enumerate(sheet.methods):
        cells = [_cell(column.cells[place], place in column.best) for column in sheet.columns]
        yield f"    {' & '.join([_escaped(name), *cells])} \\\\"
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _row(texts: Sequence[str]) -> str:
    return f"    {' & '.join(map(_escaped, texts))} \\\\"


def _cell(text: str, is_best: bool) -> str:
    r"""A cell; numbers are in math mode, for their signs.

    >>> _cell("-0.042 ± 0.015", True), _cell("a_b", False)
    ('$\\mathbf{-0.042} \\seedstd{0.015}$', 'a\\_b')
    """
    if not _NUMBERS.fullmatch(text):
        return _escaped(text)
    mean, _, std = text.partition(" ± ")
    mean = f"\\mathbf{{{mean}}}" if is_best else mean
    return f"${mean} \\seedstd{{{std}}}$" if std else f"${mean}$"


def _escaped(text: str) -> str:
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in text)
    return _MINUS.sub("$-$", escaped)
