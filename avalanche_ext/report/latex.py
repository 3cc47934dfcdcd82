r"""Tables as LaTeX, with the rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from avalanche_ext.report.layout import NONE, wrapped
from avalanche_ext.report.sheets import Sheet

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
_MINUS = re.compile(r"(?<![^ (])-(?=[0-9 ])")
_NUMBERS = re.compile(r"[-+<0-9.,±/\[\] ]*[0-9][-+<0-9.,±/\[\] ]*")


def latex(sheets: Sequence[Sheet]) -> str:
    """Tables for a paper, with the best means bold; a line end after the last.

    Each is a `table` that needs only booktabs, and compiles with pdflatex.
    """
    tables = ["\n".join(_lines(sheet)) for sheet in sheets]
    return "\n\n".join([_PREAMBLE, *tables]) + "\n"


def _lines(sheet: Sheet) -> Iterator[str]:
    for line in sheet.absent:
        yield f"% {line}"
    yield r"\begin{table}"
    yield r"  \centering"
    caption = ". ".join([sheet.title, " ".join(sheet.notes)])
    if any(column.best for column in sheet.columns):
        caption += " Bold: the best."
    first, *others = wrapped(_escaped(caption))
    yield f"  \\caption{{{first}"
    yield from (f"    {line}" for line in others)
    yield r"  }\medskip"
    yield f"  \\label{{tab:{sheet.name}}}"
    yield r"  \small"
    yield r"  \setlength{\tabcolsep}{4pt}"
    yield f"  \\begin{{tabular}}{{l{'r' * len(sheet.columns)}}}"
    yield r"    \toprule"
    yield _row(["method", *(column.title for column in sheet.columns)])
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
    text = text.removesuffix(f" ± {NONE}")  # One seed has no deviation.
    if not _NUMBERS.fullmatch(text):
        return _escaped(text)
    mean, _, std = text.partition(" ± ")
    mean = f"\\mathbf{{{mean}}}" if is_best else mean
    return f"${mean} \\seedstd{{{std}}}$" if std else f"${mean}$"


def _escaped(text: str) -> str:
    escaped = "".join(_SPECIAL.get(sign, sign) for sign in text)
    return _MINUS.sub("$-$", escaped)
