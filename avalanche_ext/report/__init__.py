"""Reports on finished experiments: statistics, tables and figures from result files alone."""

from avalanche_ext.report.results import ReportError, read_results
from avalanche_ext.report.writer import write_report

__all__ = ["ReportError", "read_results", "write_report"]
