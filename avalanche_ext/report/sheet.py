"""A table, independent of its output format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table of methods.

    Attributes:
        title: Its title.
        cells: A text for each method.
        best: The indices of the best cells; empty if there is no best one.
        note: A sentence on it; "" if the title is clear enough.
        is_number: Whether its cells are numbers; a page sorts them as such, and otherwise as text.
    """

    title: str
    cells: Sequence[str]
    best: frozenset[int] = frozenset()
    note: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table of methods, or of claims.

    Attributes:
        name: A name for references, of letters, digits and "_-.".
        title: What the table shows, one line.
        caption: The same for a paper, without the experiment's progress.
        methods: The methods or claims, one per row.
        columns: The columns beside their names.
        notes: Sentences below the table.
        on_best: A sentence on the best cells; "" if there are none.
        absent: Lines on runs that the table lacks, or that do not match.
        first: The title of the methods' column.
    """

    name: str
    title: str
    caption: str
    methods: Sequence[str]
    columns: Sequence[Column]
    notes: Sequence[str]
    on_best: str
    absent: Sequence[str]
    first: str = "method"
