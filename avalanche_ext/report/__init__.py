"""Reports on finished experiments: statistics, tables and figures from result files alone."""

from avalanche_ext.report.writer import write_report

__all__ = ["write_report"]
