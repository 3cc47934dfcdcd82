"""The content of a page for each experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from avalanche_ext.report.absent import absent_sections
from avalanche_ext.report.diversity import diversities_text
from avalanche_ext.report.forms import forms_text
from avalanche_ext.report.gallery import Picture, pictures, read_kept
from avalanche_ext.report.page.matrices import Matrices, matrices
from avalanche_ext.report.page.summary import sentences
from avalanche_ext.report.page.svg import Drawing, drawing
from avalanche_ext.report.page.tables import (
    Table,
    choices_table,
    joint_tables,
    methods_table,
    runs_table,
    tests_tables,
)
from avalanche_ext.report.rho_shown import rho_text
from avalanche_ext.report.sheets import heading
from avalanche_ext.report.side_by_side import NAME, caption, side_by_side_figure
from avalanche_ext.report.spectrum import spectra_text
from avalanche_ext.report.statistics import MethodStatistics, method_statistics
from avalanche_ext.report.style import chosen_on_test
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.files import CONFIG, EXPERIMENT, VALIDATION, cell_folder

_SHOWN_ELSEWHERE = {"matrices"}
"""Pictures that a page shows in a special way."""


@dataclass(frozen=True)
class Configuration:
    """The configurations of an experiment's runs, as text.

    Attributes:
        shared: What the runs of all methods share.
        experiment: The file experiment.yaml.
    """

    shared: str
    own: Mapping[str, str]
    experiment: str


@dataclass(frozen=True)
class Experiment:
    """The content of a page for one experiment.

    Attributes:
        id: A name that no other experiment of the page has.
        results: The experiment.
        statistics: Its `method_statistics`.
        state: Its numbers of methods, seeds and finished runs.
        is_held_out: Whether accuracies were measured on held-out validation samples.
        summary: The summary.
        absent: Missing runs: a heading and its lines, for each reason.
        methods: The table of methods.
        tests: The tables of tests.
        choices: The table of chosen hyper-parameters; None if nothing was searched.
        runs: The table of runs.
        pictures: Its pictures, each with its drawing. matrices: Its transfer matrices; None if
            there are none.
        analyses: Tables of the runs' exhibits, as text.
        versions: Versions of packages, and the number of runs that had each.
        unreadable: The errors of files, by their paths.
        configuration: The configurations.
    """

    id: str
    results: ExperimentResults
    statistics: Sequence[MethodStatistics]
    state: str
    is_held_out: bool
    summary: Sequence[str]
    absent: Sequence[Sequence[str]]
    methods: Table
    tests: Sequence[Table]
    choices: Table | None
    runs: Table
    pictures: Sequence[tuple[Picture, Drawing]]
    matrices: Matrices | None
    analyses: Sequence[str]
    versions: Mapping[str, Mapping[str, int]]
    unreadable: Mapping[str, str]
    configuration: Configuration


def content(results: ExperimentResults, number: int) -> Experiment:
    """Return the content of a page for one experiment.

    Args:
        results: The experiment.
        number: Its number on the page.

    Raises:
        ResultsError: If `published` or a claim names an unknown metric or method.
    """
    statistics = method_statistics(results)
    kept = read_kept(results)
    drawn = [
        (picture, drawing(picture.draw, f"{number}-{picture.name}"))
        for picture in pictures(results, statistics, kept)
        if picture.name not in _SHOWN_ELSEWHERE
    ]
    caveats = chosen_on_test(results)
    analyses = (
        spectra_text(kept.spectra, caveats),
        forms_text(kept.forms, caveats),
        rho_text(kept.rho),
        diversities_text(kept.diversities, caveats),
    )
    return Experiment(
        id=f"experiment-{number}",
        results=results,
        statistics=statistics,
        state=heading(results),
        is_held_out=results.split == VALIDATION,
        summary=sentences(results, statistics),
        absent=[*absent_sections(results)],
        methods=methods_table((results, statistics)),
        tests=tests_tables((results, statistics)),
        choices=choices_table(results),
        runs=runs_table(results),
        pictures=[(picture, drawing) for picture, drawing in drawn if drawing],
        matrices=matrices(results),
        analyses=[text.strip() for text in analyses if text],
        versions=_versions(results),
        unreadable=kept.unreadable,
        configuration=_configuration(results),
    )


@dataclass(frozen=True)
class Joint:
    """The content of a page for several experiments together.

    Attributes:
        tables: The tables that compare them.
        pictures: The picture that compares them, with its drawing; empty if there is none.
    """

    tables: Sequence[Table]
    pictures: Sequence[tuple[Picture, Drawing]]


def joint(experiments: Sequence[Experiment]) -> Joint:
    """Return the comparison of experiments."""
    all_results = [each.results for each in experiments]
    picture = Picture(NAME, caption(all_results), partial(side_by_side_figure, all_results))
    drawn = drawing(picture.draw, f"all-{NAME}")
    return Joint(
        tables=joint_tables([(each.results, each.statistics) for each in experiments]),
        pictures=[(picture, drawn)] if drawn else [],
    )


def _versions(results: ExperimentResults) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for method in results.methods:
        for cell in method.cells.values():
            for package, version in cell.versions.items():
                versions = found.setdefault(package, {})
                versions[version] = versions.get(version, 0) + 1
    return found


def _configuration(results: ExperimentResults) -> Configuration:
    texts = {}
    for method in results.finished:
        seed = next(iter(method.cells))
        text = _text(cell_folder(results.folder, method.name, seed) / CONFIG)
        if text:
            texts[method.name] = _blocks(text)
    # A top-level key with its content is shared if it is the same for all methods.
    common = [
        block
        for block in next(iter(texts.values()), [])
        if all(block in blocks for blocks in texts.values())
    ]
    return Configuration(
        shared="".join(common),
        own={
            name: "".join(block for block in blocks if block not in common)
            for name, blocks in texts.items()
        },
        experiment=_text(results.folder / EXPERIMENT),
    )


def _blocks(text: str) -> list[str]:
    """Split a YAML text at its keys of the top level."""
    blocks: list[str] = []
    for line in text.splitlines(keepends=True):
        if blocks and line[:1] in (" ", "-", "#", "\n"):
            blocks[-1] += line
        else:
            blocks.append(line)
    return blocks


def _text(path: Path) -> str:
    """Return the text of a file; "" if it cannot be read, as when another command moves the run."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
