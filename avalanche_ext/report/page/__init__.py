"""The report as one HTML page that needs nothing beside itself."""

from avalanche_ext.report.page.page import write_page

__all__ = ["write_page"]
