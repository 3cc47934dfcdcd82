"""The report as one self-contained HTML page."""

from avalanche_ext.report.page.page import write_page

__all__ = ["write_page"]
