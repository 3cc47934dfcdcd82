"""Writing an experiment's report into its folder."""

from __future__ import annotations

from pathlib import Path

from avalanche_ext.report.results import ExperimentResults, ReportError, read_results
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.table import csv_table, text_table

TEXT = "report.txt"
CSV = "summary.csv"
ACCURACY = "accuracy.png"
MATRICES = "matrices.png"


def write_report(directory: Path) -> str:
    """Read an experiment's results and write its report beside them.

    Writes report.txt (the tables), summary.csv (the same numbers at full precision), accuracy.png
    and matrices.png. Without a finished run there is nothing to draw, and pictures of an earlier
    report are removed.

    Args:
        directory: The experiment's folder, `<out>/<experiment>`.

    Returns:
        The text of report.txt, followed by where the files lie.

    Raises:
        ReportError: If the folder holds no readable experiment, or cannot be written to.
    """
    results = read_results(directory)
    statistics = method_statistics(results)
    text = text_table(results, statistics)
    try:
        (directory / TEXT).write_text(text, encoding="utf-8")
        (directory / CSV).write_text(csv_table(results, statistics), encoding="utf-8")
        written = [TEXT, CSV, *_write_figures(results, directory)]
    except OSError as error:
        raise ReportError(f"{directory}: cannot write the report: {error}") from error
    return f"{text}\n{', '.join(written)} lie in {directory}\n"


def _write_figures(results: ExperimentResults, directory: Path) -> list[str]:
    if not results.finished:
        for name in (ACCURACY, MATRICES):
            (directory / name).unlink(missing_ok=True)
        return []
    from avalanche_ext.report.figures import accuracy_figure, matrices_figure

    accuracy_figure(results).savefig(directory / ACCURACY, dpi=150)
    matrices_figure(results).savefig(directory / MATRICES, dpi=150)
    return [ACCURACY, MATRICES]
