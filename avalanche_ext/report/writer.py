"""The report of an experiment, written into its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avalanche_ext.report.csv_table import csv_table
from avalanche_ext.report.diversity import diversities_text
from avalanche_ext.report.forms import forms_text
from avalanche_ext.report.gallery import FORMATS, NAMES, pictures, read_kept, write_pictures
from avalanche_ext.report.layout import section
from avalanche_ext.report.redrawing import drawn_before, remember, stamp_of
from avalanche_ext.report.rho_shown import rho_text
from avalanche_ext.report.spectrum import spectra_text
from avalanche_ext.report.statistics import method_statistics
from avalanche_ext.report.style import chosen_on_test
from avalanche_ext.report.table import text_table
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.files import reason_of, replacing
from avalanche_ext.words import count

TEXT = "report.txt"
CSV = "summary.csv"
PICTURES = tuple(f"{name}.{FORMATS[0]}" for name in NAMES)
"""The files of all possible pictures, in the default format."""


def write_report(directory: str | Path, form: str = FORMATS[0]) -> str:
    """Read an experiment's results and write its report next to them.

    Writes report.txt (the tables), summary.csv (metrics and tests at full precision), and those
    pictures of `gallery.NAMES` that have something to show. Pictures of an earlier report are
    removed, even in other formats. If their content has not changed, they are kept. An exhibit that
    cannot be used is left out and named at the end of report.txt.

    Args:
        directory: The experiment's folder, `<out>/<experiment>`.
        form: The pictures' format, one of FORMATS, instead of png.

    Returns:
        The text of report.txt, followed by the files' folder, or the reason why they were not
        written.

    Raises:
        ResultsError: If the folder holds no readable experiment.
    """
    directory = Path(directory)
    results = read_results(directory)
    statistics = method_statistics(results)
    kept = read_kept(results)
    caveats = chosen_on_test(results)
    text = (
        text_table(results, statistics)
        + spectra_text(kept.spectra, caveats)
        + forms_text(kept.forms, caveats)
        + rho_text(kept.rho)
        + diversities_text(kept.diversities, caveats)
        + _unreadable_text(kept.unreadable)
    )
    try:
        for name, content in ((TEXT, text), (CSV, csv_table([(results, statistics)]))):
            with replacing(directory / name) as partial:
                partial.write_text(content, encoding="utf-8")
        stamp = stamp_of(form, results, statistics, kept)
        drawn = drawn_before(directory, stamp)
        if drawn is None:
            drawn = write_pictures(pictures(results, statistics, kept), directory, form)
            remember(directory, stamp, drawn)
        written = [TEXT, CSV, *drawn]
    except OSError as error:  # The folder may be read-only, or the disk full.
        reason = reason_of(error)
        return f"{text}\nThis report could not be written to {directory}: {reason}\n"
    return f"{text}\n{', '.join(written)} are in {directory}\n"


def _unreadable_text(unreadable: Mapping[str, str]) -> str:
    """Return the report's section on exhibits that cannot be used; empty if all can."""
    if not unreadable:
        return ""
    lines = [
        f"Left out: {count(len(unreadable), 'unusable file')} (repeat its method's runs with "
        "--rerun METHOD):",
        *(f"  {path}: {' '.join(error.split())}" for path, error in unreadable.items()),
    ]
    return section(lines)
