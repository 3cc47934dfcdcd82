"""Reports on experiments: statistics, tables and figures, computed only from result files."""

from avalanche_ext.report.plots import (
    plot_accuracy,
    plot_inside,
    plot_learning,
    plot_matrix,
    plot_metric,
    plot_tradeoff,
)
from avalanche_ext.report.writer import write_report

__all__ = [
    "plot_accuracy",
    "plot_inside",
    "plot_learning",
    "plot_matrix",
    "plot_metric",
    "plot_tradeoff",
    "write_report",
]
