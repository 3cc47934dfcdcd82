"""Reading a whole experiment: its runs' results, and their exhibits for reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import numpy as np

from avalanche_ext.metrics.matrix import average_accuracy, average_intransigence
from avalanche_ext.results.cell import CellResult, Floats, read_cell
from avalanche_ext.results.exhibits import Arrays, E
from avalanche_ext.results.files import RESULT, cell_folder, exhibit_file, printable
from avalanche_ext.results.record import (
    Claim,
    ExperimentRecord,
    ResultsError,
    Sweep,
    read_record,
)
from avalanche_ext.results.tune import Choice

RunMetrics = dict[str, dict[int, dict[str, float | None]]]
"""Metrics of runs, by method, seed and metric."""


@dataclass
class MethodResults:
    """One method's runs, by seed: finished, failed (with the error), and missing."""

    name: str
    cells: dict[int, CellResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)

    @property
    def matrices(self) -> Floats:
        """Every finished run's R, (n, T, T), in the order of the seeds."""
        return np.array([cell.R for cell in self.cells.values()])

    @property
    def is_iid(self) -> bool:
        """Whether the samples of all experiences came in random order."""
        return any(cell.is_iid for cell in self.cells.values())


@dataclass(frozen=True)
class ExperimentResults:
    """The results of an experiment, for the methods and seeds of its last `run`.

    Attributes:
        folder: The experiment's folder.
        name: The experiment's name.
        baseline: Name of the method that the others are tested against; None for no tests.
        seeds: The seeds, in the order of the configuration.
        methods: The methods' results, in the order of the configuration.
        published: A paper's numbers: `reference`; `mean` and `std` per metric and method; and
            `rho_correlation` by metric.
        sweeps: The sweeps, by the name of the swept method.
        claims: Claims to test one-sidedly, in the order of the configuration.
        split: The samples that accuracies are measured on: "test", or "validation" for held-out
            ones.
        choices: The hyper-parameters that searches have chosen on validation samples.
        places: The numbers that determine methods' colours, by name, if experiments are shown
            together; empty if they follow from the order of the methods.
        unnamed: The seeds of finished runs in the folder that record.yaml does not name, by method.
    """

    folder: Path
    name: str
    baseline: str | None
    seeds: tuple[int, ...]
    methods: tuple[MethodResults, ...]
    published: Mapping[str, Any] | None
    sweeps: Mapping[str, Sweep]
    claims: tuple[Claim, ...]
    split: str
    choices: tuple[Choice, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    unnamed: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def finished(self) -> tuple[MethodResults, ...]:
        """The methods with at least one finished run."""
        return tuple(method for method in self.methods if method.cells)

    @property
    def n_cells(self) -> int:
        """The number of runs of the experiment, finished or not."""
        return len(self.methods) * len(self.seeds)

    @property
    def groups(self) -> dict[str, tuple[MethodResults, ...]]:
        """The settings of each swept method, and each other method alone, in their order."""
        swept = {setting: name for name, sweep in self.sweeps.items() for setting in sweep.values}
        groups: dict[str, tuple[MethodResults, ...]] = {}
        for method in self.methods:
            name = swept.get(method.name, method.name)
            groups[name] = (*groups.get(name, ()), method)
        return groups

    def run_metrics(self) -> RunMetrics:
        """Return every finished run's metrics, by method and seed; None where one is undefined.

        Intransigence is measured against the best of the compared methods (Chen et al., 2020): for
        each experience, the largest of their mean accuracies just after learning it. It is
        undefined for methods trained iid, which do not learn one experience at a time.
        """
        learned = [
            np.diagonal(method.matrices.mean(axis=0))
            for method in self.finished
            if not method.is_iid
        ]
        best = np.max(learned, axis=0) if learned else np.empty(0)
        return {
            method.name: {
                seed: {
                    **cell.metrics,
                    "intransigence": None if method.is_iid else average_intransigence(cell.R, best),
                }
                for seed, cell in method.cells.items()
            }
            for method in self.methods
        }

    def with_best_settings(self) -> ExperimentResults:
        """Return the same with only the best setting of each swept method.

        It has the highest mean ACC among the settings with the most finished runs.
        """
        best = tuple(max(group, key=_by_accuracy) for group in self.groups.values())
        return replace(self, methods=best, sweeps={})

    def with_first_runs(self) -> ExperimentResults:
        """Return the same with only the first finished run of each method."""
        first = [replace(each, cells=dict([*each.cells.items()][:1])) for each in self.methods]
        return replace(self, methods=tuple(first))


@dataclass(frozen=True)
class Exhibits(Generic[E]):
    """The exhibits of one kind that an experiment's finished runs have kept.

    Attributes:
        methods: The exhibits by method and seed, for methods that have any.
        unreadable: The errors of files, by their paths in the experiment's folder.
    """

    methods: Mapping[str, Mapping[int, E]] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


def read_results(folder: str | Path) -> ExperimentResults:
    """Read an experiment's folder, `<out>/<experiment>`.

    Only methods and seeds named in record.yaml are read. A run with a readable result has finished,
    even if there is a failure beside it. A run without one counts as failed if it has a
    failure.json, or if its result cannot be read. It counts as missing if it has neither, or if its
    file's hash differs from record.yaml: a result of an earlier configuration never enters a table.

    Args:
        folder: The folder, with record.yaml in it.

    Raises:
        ResultsError: If record.yaml is absent or malformed, or if runs have different numbers
            of experiences.
    """
    folder = Path(folder)
    record = read_record(folder)
    results = ExperimentResults(
        folder=folder,
        name=record.name,
        baseline=record.baseline,
        seeds=tuple(record.seeds),
        methods=tuple(
            _read_method(folder, name, record.seeds, record.hashes.get(name, {}))
            for name in record.methods
        ),
        published=record.published,
        sweeps=record.sweeps,
        claims=tuple(record.claims),
        split=record.split,
        choices=tuple(record.choices),
        unnamed=_unnamed(folder, record),
    )
    _check_same_length(results)
    return results


def read_exhibits(results: ExperimentResults, kind: type[E]) -> Exhibits[E]:
    """Read the exhibits of one kind of every finished run that has one.

    A file is left out and listed as unreadable if it cannot be read, if it comes from another
    configuration than the result, or if it is missing although the result names it.
    """
    methods: dict[str, dict[int, E]] = {}
    unreadable: dict[str, str] = {}
    for method in results.methods:
        for seed, cell in method.cells.items():
            path = exhibit_file(cell_folder(results.folder, method.name, seed), kind.NAME)
            if not path.is_file() and kind.NAME not in cell.exhibits:
                continue
            try:
                exhibit = _read_exhibit(path, kind, cell.hash)
            # A damaged file can make zipfile, zlib and numpy raise nearly anything.
            except Exception as error:
                where = path.relative_to(results.folder).as_posix()
                unreadable[where] = f"{type(error).__name__}: {printable(error)}"
            else:
                methods.setdefault(method.name, {})[seed] = exhibit
    return Exhibits(methods, unreadable)


def _read_exhibit(path: Path, kind: type[E], expected_hash: str) -> E:
    if not path.is_file():
        raise FileNotFoundError("the run wrote this file, but it is missing")
    with path.open("rb") as stream, np.load(stream) as file:
        arrays: Arrays = dict(file)
    if str(arrays["hash"]) != expected_hash:
        raise ValueError("it comes from another configuration than the result beside it")
    return kind.from_arrays(arrays)


def _read_method(
    experiment: Path, name: str, seeds: Sequence[int], hashes: Mapping[int, str]
) -> MethodResults:
    method = MethodResults(name)
    for seed in seeds:
        folder = cell_folder(experiment, name, seed)
        try:
            outcome = read_cell(folder, hashes.get(seed))
        except (OSError, ValueError) as error:
            outcome = f"unreadable result file: {printable(error)}"
        if outcome is None:
            method.missing.append(seed)
        elif isinstance(outcome, str):
            method.failures[seed] = outcome
        else:
            method.cells[seed] = outcome
    return method


def _unnamed(folder: Path, record: ExperimentRecord) -> Mapping[str, Sequence[int]]:
    """Return the seeds of results that the record does not name, by method."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*/seed-*")):
        method, seed = path.parent.name, re.fullmatch("seed-(0|[1-9][0-9]{0,9})", path.name)
        if seed is None or (method in record.methods and int(seed[1]) in record.seeds):
            continue
        if (path / RESULT).is_file():
            found.setdefault(printable(method), []).append(int(seed[1]))
    return {method: sorted(seeds) for method, seeds in found.items()}


def _check_same_length(results: ExperimentResults) -> None:
    lengths: dict[int, str] = {}
    for method in results.methods:
        for seed, cell in method.cells.items():
            lengths.setdefault(len(cell.R), f"{method.name}/seed-{seed}")
    if len(lengths) > 1:
        found = ", ".join(f"{length} in {where}" for length, where in lengths.items())
        raise ResultsError(
            f"{results.name}: runs have different numbers of experiences ({found}): results of "
            "different configurations share this folder; run the experiment again"
        )


def _by_accuracy(method: MethodResults) -> tuple[int, float]:
    values = [average_accuracy(cell.R) for cell in method.cells.values()]
    return len(values), float(np.mean(values)) if values else -1.0
