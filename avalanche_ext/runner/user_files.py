"""The user's files of an experiment: all cells run their content from the command's start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avalanche_ext.config import Cell, Component, Experiment
from avalanche_ext.results.copies import are_copied, contents_of, copies_folder, write_copies
from avalanche_ext.results.files import reason_of
from avalanche_ext.runner.preflight import PreflightError

Contents = Mapping[str, Mapping[str, bytes]]
"""The contents of files by path, by the names of the components defined in them."""


def read_user_files(experiment: Experiment) -> Contents:
    """Return the contents of the user's files that an experiment uses.

    Raises:
        PreflightError: If one has been edited since the experiment was loaded.
    """
    try:
        return {
            component.name: contents_of(component.folder, component.files)
            for component in experiment.own_components()
            if component.folder
        }
    except ValueError as error:
        raise PreflightError(str(error)) from error
    except OSError as error:
        raise PreflightError(f"{error.filename}: cannot be read ({reason_of(error)})") from error


def write_user_files(experiment: Experiment, contents: Contents, folder: Path) -> None:
    """Write copies of the user's files into an experiment's folder, unless they exist there.

    Args:
        experiment: The experiment, or a stage of it.
        contents: What `read_user_files` returns.
        folder: The experiment's folder, whose claim the caller holds.
    """
    for component in experiment.own_components():
        if not are_copied(component.files, folder):
            write_copies(contents[component.name], component.files, folder)


def copied(cell: Cell, out: Path, directory: Path) -> dict[Path, Path]:
    """Copy the user's files into a cell's folder, from its experiment's folder if they are there.

    Args:
        cell: The cell.
        out: Folder of all results.
        directory: The cell's folder, whose claim the caller holds.

    Returns:
        The copies by the paths of their originals.

    Raises:
        ValueError: If a file's content has changed since the command started.
    """
    copies: dict[Path, Path] = {}
    for component in cell.components:
        for each in (component, *component.parts.values()):
            if each.folder:
                folder = _source(each, out / cell.experiment) or each.folder
                write_copies(contents_of(folder, each.files), each.files, directory)
                of_cell = directory / copies_folder(each.files)
                copies |= {each.folder / path: of_cell / path for path in each.files}
    return copies


def _source(component: Component, folder: Path) -> Path | None:
    """Return the folder of copies of a component's files in an experiment's; None without any."""
    has_copies = are_copied(component.files, folder)
    return folder / copies_folder(component.files) if has_copies else None
