"""Pictures of sweeps from a folder's results, and the texts of their legends."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.sweep import sweep_figure
from avalanche_ext.report.tradeoff_picture import tradeoff_figure
from avalanche_ext.results.experiment import read_results


def tradeoff_of(directory: Path) -> Figure:
    results = read_results(directory)
    figure = tradeoff_figure(results, method_statistics(results))
    assert figure is not None
    return figure


def sweep_of(directory: Path) -> Figure:
    results = read_results(directory)
    return sweep_figure(results, method_statistics(results))


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
