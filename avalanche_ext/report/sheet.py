"""What a table is, whatever the form it is printed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table of methods.

    Attributes:
        title: Its title.
        cells: A text for each method.
        best: The places of the best cells; empty where none is the best.
        note: A sentence on it; "" where the title says enough.
        is_number: Whether its cells are numbers, by which a page sorts; it sorts by texts if not.
    """

    title: str
    cells: Sequence[str]
    best: frozenset[int] = frozenset()
    note: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table of methods.

    Attributes:
        name: A name for references, of letters, digits and "_-.".
        title: What the table shows, one line.
        caption: The same for a paper, without how far the experiment is.
        methods: The methods, one a row.
        columns: The columns beside their names.
        notes: Sentences below the table.
        on_best: A sentence on the best cells; "" where there are none.
        absent: Lines on runs that the table lacks.
    """

    name: str
    title: str
    caption: str
    methods: Sequence[str]
    columns: Sequence[Column]
    notes: Sequence[str]
    on_best: str
    absent: Sequence[str]
