"""The output formats of a report, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from avalanche_ext.report.choices import choices_sheets
from avalanche_ext.report.claims import claims_sheets
from avalanche_ext.report.csv_table import csv_table
from avalanche_ext.report.gallery import write_picture
from avalanche_ext.report.joint import joint_sheets
from avalanche_ext.report.latex import latex
from avalanche_ext.report.layout import aligned, wrapped
from avalanche_ext.report.markdown import markdown
from avalanche_ext.report.sheet import Sheet
from avalanche_ext.report.sheets import Reported, heading, paper_sheets, sheet_of
from avalanche_ext.report.side_by_side import NAME, side_by_side_figure
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.writer import write_report
from avalanche_ext.results.experiment import ExperimentResults, read_results
from avalanche_ext.results.files import reason_of
from avalanche_ext.results.record import ResultsError

_MOST_METHODS = 12
"""With more methods, the text of several experiments shows only ACC, to save lines."""


def report_on(directories: Sequence[str | Path], form: str = "text", figures: str = "png") -> str:
    """Return the report of one experiment, or of several side by side, for printing.

    As text, the report of one experiment is also written into its folder, with its figures; for
    several, a figure is written into the first folder. As HTML it is a page in that folder. The
    other formats write nothing.

    Args:
        directories: The experiments' folders, one or more.
        form: "text", "markdown", "latex", "html" or "csv".
        figures: The format of the figures, one of `gallery.FORMATS`.

    Returns:
        The report; for HTML, the path of the page.

    Raises:
        ResultsError: If a folder is given twice or holds no readable experiment, or if `published`
            or a claim names an unknown metric or method.
    """
    folders = [Path(each) for each in directories]
    if form == "text" and len(folders) == 1:
        return write_report(folders[0], figures)
    if form == "html":
        return _page(folders)
    experiments = _read(folders)
    if form == "csv":
        return csv_table(experiments)
    if len(experiments) > 1:
        sheets = joint_sheets(experiments)
    elif form == "latex":
        sheets = [*paper_sheets(experiments[0])]
    else:
        sheets = [sheet_of(experiments[0])]
    if len(experiments) == 1:
        results, _ = experiments[0]
        sheets += [*claims_sheets(results), *choices_sheets(results)]
    forms = {"markdown": markdown, "latex": latex}
    if form in forms:
        return forms[form](sheets)
    all_results = [results for results, _ in experiments]
    return _side_by_side(all_results, sheets) + _figure(all_results, figures)


def _figure(experiments: Sequence[ExperimentResults], form: str) -> str:
    """Write the figure of several experiments, and return a line with its path."""
    folder = experiments[0].folder
    try:
        drawn = write_picture(partial(side_by_side_figure, experiments), folder, NAME, form)
    except OSError as error:  # The folder may be read-only, or the disk full.
        return f"\n{NAME}.{form} could not be written to {folder}: {reason_of(error)}\n"
    return f"\n{drawn} is in {folder}\n" if drawn else ""


def _page(folders: Sequence[Path]) -> str:
    """Write the page, and return its path."""
    from avalanche_ext.report.page import write_page

    _check_different(folders)
    try:
        return f"{write_page(folders)}\n"
    except OSError as error:  # The folder may be read-only, or the disk full.
        raise ResultsError(
            f"{folders[0]}: the page could not be written: {reason_of(error)}"
        ) from error


def _check_different(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ResultsError(f"{folder}: this folder is given twice; give each experiment once")
        seen.add(folder.resolve())


def _read(folders: Sequence[Path]) -> list[Reported]:
    _check_different(folders)
    all_results = [read_results(folder) for folder in folders]
    return [(results, method_statistics(results)) for results in all_results]


def _side_by_side(experiments: Sequence[ExperimentResults], sheets: Sequence[Sheet]) -> str:
    """The tables of several experiments as text."""
    shown = sheets if len(sheets[0].methods) <= _MOST_METHODS else sheets[:1]
    sections = [[*map(heading, experiments)]]
    said: list[str] = []
    for sheet in shown:
        titles = ["method", *(column.title for column in sheet.columns)]
        columns = [sheet.methods, *(column.cells for column in sheet.columns)]
        rows = [[*row] for row in zip(*columns, strict=True)]
        notes = [note for note in sheet.notes if note not in said]
        said += notes
        sections += [[sheet.title, *aligned([titles, *rows])], wrapped(" ".join(notes))]
    if shown[0].absent:
        sections.append([*shown[0].absent])
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"
