"""The report of an experiment, written into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_ext.report.diversity import diversities_figure, diversities_text
from avalanche_ext.report.edits import edits_figure
from avalanche_ext.report.figures import accuracy_figure, learning_figure, matrices_figure
from avalanche_ext.report.layout import count, section
from avalanche_ext.report.rho import read_rho, rho_figure, rho_text
from avalanche_ext.report.spectrum import spectra_figure, spectra_text
from avalanche_ext.report.statistics import MethodStatistics, method_statistics
from avalanche_ext.report.sweep import sweep_figure
from avalanche_ext.report.table import csv_table, text_table
from avalanche_ext.report.tradeoff import swept_parameters, tradeoff_figure
from avalanche_ext.results.exhibits import Edits, FisherSpectra, GradientDiversity
from avalanche_ext.results.experiment import ExperimentResults, read_exhibits, read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT = "report.txt"
CSV = "summary.csv"
ACCURACY = "accuracy.png"
LEARNING = "learning.png"
MATRICES = "matrices.png"
TRADEOFF = "tradeoff.png"
SWEEP = "sweep.png"
EDITS = "edits.png"
SPECTRUM = "spectrum.png"
RHO = "rho.png"
DIVERSITY = "gradient_diversity.png"
PICTURES = (ACCURACY, LEARNING, MATRICES, TRADEOFF, SWEEP, EDITS, SPECTRUM, RHO, DIVERSITY)


def write_report(directory: str | Path) -> str:
    """Read an experiment's results and write its report beside them.

    Writes report.txt (the tables), summary.csv (the same numbers at full precision), and
    accuracy.png, learning.png and matrices.png with the best setting of each swept method. Where
    methods are swept, it writes tradeoff.png and sweep.png; where runs have kept exhibits,
    edits.png, spectrum.png, rho.png and gradient_diversity.png. An earlier report's pictures that
    have nothing to show any more are removed. An exhibit that cannot be used is left out and named
    at the end of report.txt.

    Args:
        directory: The experiment's folder, `<out>/<experiment>`.

    Returns:
        The text of report.txt, followed by where the files lie, or why they could not be written.

    Raises:
        ResultsError: If the folder holds no readable experiment.
    """
    directory = Path(directory)
    results = read_results(directory)
    statistics = method_statistics(results)
    shown = results.with_best_settings()
    edits = read_exhibits(shown.with_first_runs(), Edits)
    spectra = read_exhibits(shown, FisherSpectra)
    rho = read_rho(results)
    diversities = read_exhibits(shown, GradientDiversity)
    unreadable = {
        path: error
        for kept in (edits, spectra, rho, diversities)
        for path, error in kept.unreadable.items()
    }
    text = (
        text_table(results, statistics)
        + spectra_text(spectra)
        + rho_text(rho)
        + diversities_text(diversities)
        + _unreadable_text(unreadable)
    )
    try:
        (directory / TEXT).write_text(text, encoding="utf-8")
        (directory / CSV).write_text(csv_table(results, statistics), encoding="utf-8")
        figures = {
            **_accuracy_figures(results, shown, statistics),
            EDITS: edits_figure(edits),
            SPECTRUM: spectra_figure(spectra),
            RHO: rho_figure(rho),
            DIVERSITY: diversities_figure(diversities, shown),
        }
        written = [TEXT, CSV, *_write_figures(figures, directory)]
    except OSError as error:  # The folder may be read-only, or the disk full.
        reason = error.strerror or str(error)
        return f"{text}\nThis report could not be written into {directory}: {reason}\n"
    return f"{text}\n{', '.join(written)} are in {directory}\n"


def _accuracy_figures(
    results: ExperimentResults, shown: ExperimentResults, statistics: Sequence[MethodStatistics]
) -> dict[str, Figure | None]:
    """The figures of accuracies; `shown` is `results` with the best settings."""
    if not results.finished:
        return {}
    figures: dict[str, Figure | None] = {
        ACCURACY: accuracy_figure(shown),
        LEARNING: learning_figure(shown),
        MATRICES: matrices_figure(shown),
    }
    if swept_parameters(results).keys() & {method.name for method in results.finished}:
        figures[TRADEOFF] = tradeoff_figure(results, statistics)
        figures[SWEEP] = sweep_figure(results, statistics)
    return figures


def _write_figures(figures: Mapping[str, Figure | None], directory: Path) -> list[str]:
    """Write the figures, remove the pictures of those that are None, return the names written."""
    written = []
    for name in PICTURES:
        figure = figures.get(name)
        if figure:
            figure.savefig(directory / name, dpi=150)
            written.append(name)
        else:
            (directory / name).unlink(missing_ok=True)
    return written


def _unreadable_text(unreadable: Mapping[str, str]) -> str:
    """The report's section on exhibits that cannot be used; empty where all can."""
    if not unreadable:
        return ""
    lines = [
        f"Left out: {count(len(unreadable), 'file')} that cannot be used (remove the run's folder "
        "and run the experiment again):",
        *(f"  {path}: {' '.join(error.split())}" for path, error in unreadable.items()),
    ]
    return section(lines)
