"""Assembling and writing the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avalanche_ext.report.page.content import content, joint
from avalanche_ext.report.style import COLOURS, places_in
from avalanche_ext.results.experiment import read_results
from avalanche_ext.results.files import replacing

HTML = "report.html"
SEVERAL = "side_by_side.html"
"""The page of several experiments, in the folder of the first."""

_ROOM = "avalanche_ext.report"
_FOLDER = "page"


_COLOURS = (
    ("paper", "#ffffff", "#15181c"),
    ("ink", "#1c2024", "#e3e6e9"),
    ("soft", "#5b646d", "#a4adb6"),
    ("line", "#d9dee3", "#363d45"),
    ("shade", "#f4f6f8", "#1e2329"),
    ("link", "#0b5cad", "#7db8f5"),
    *(
        (f"c{place}", light, dark)
        for place, (light, dark) in enumerate(
            zip(
                COLOURS,
                ("#4da6e0", "#f0883e", "#2fc79b", "#dd9cc2", "#f2f2f2", "#f0b93a", "#86cdf5"),
                strict=True,
            )
        )
    ),
)
"""The page's colours on white and on dark paper; c0 to c6 are those of methods, paler on dark."""


def write_page(directories: Sequence[str | Path]) -> Path:
    """Read experiments and write one page about them into the folder of the first.

    The page needs no other file and no network: it contains styles, script, data and pictures. It
    is written completely or not at all. Unfinished experiments are shown in their current state.

    Args:
        directories: The experiments' folders, `<out>/<experiment>`, at least one.

    Returns:
        The file, `<out>/<experiment>/report.html`; `side_by_side.html` for several experiments,
        which does not change the page of the first.

    Raises:
        ResultsError: If a folder holds no readable experiment.
        OSError: If the file cannot be written.
    """
    folders = [Path(directory) for directory in directories]
    html = _html(folders)
    path = folders[0] / (HTML if len(folders) == 1 else SEVERAL)
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
    return path


def _html(folders: Sequence[Path]) -> str:
    from jinja2 import Environment, PackageLoader

    all_results = [*map(read_results, folders)]
    # Each method keeps its colour across the page.
    places = places_in(all_results)
    experiments = [
        content(replace(results, places=places), number)
        for number, results in enumerate(all_results, start=1)
    ]
    environment = Environment(
        loader=PackageLoader(_ROOM, _FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        experiments=experiments,
        colours=_COLOURS,
        joint=joint(experiments) if len(experiments) > 1 else None,
    )
