"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from avalanche_ext.report.layout import wrapped
from avalanche_ext.report.sheet import Sheet


def markdown(sheets: Sequence[Sheet]) -> str:
    """Tables in GitHub's Markdown, with the best numbers bold; a line end after the last."""
    return "\n\n".join("\n".join(_lines(sheet)) for sheet in sheets) + "\n"


def _lines(sheet: Sheet) -> list[str]:
    rows = [[sheet.first, *(column.title for column in sheet.columns)]]
    rows.append(["---", *["---:"] * len(sheet.columns)])
    for place, name in enumerate(sheet.methods):
        rows.append(
            [
                name,
                *(
                    f"**{column.cells[place]}**" if place in column.best else column.cells[place]
                    for column in sheet.columns
                ),
            ]
        )
    table = [f"| {' | '.join(map(_escaped, row))} |" for row in rows]
    notes = wrapped(" ".join(filter(None, [*sheet.notes, sheet.on_best])))
    absent = ["", "```text", *sheet.absent, "```"] if sheet.absent else []
    return [f"**{sheet.title}**", "", *table, "", *notes, *absent]


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")
