"""Versions of packages that differ between the runs of one table."""

from __future__ import annotations

from collections.abc import Iterator

from avalanche_ext.report.layout import wrapped
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count


def mixed_versions(results: ExperimentResults) -> Iterator[list[str]]:
    """Return a section on packages whose versions differ between finished runs, if any.

    Runs from before versions were recorded do not count.
    """
    methods: dict[str, dict[str, list[str]]] = {}
    for method in results.methods:
        for cell in method.cells.values():
            for package, version in cell.versions.items():
                methods.setdefault(package, {}).setdefault(version, []).append(method.name)
    mixed = {package: runs for package, runs in methods.items() if len(runs) > 1}
    if mixed:
        yield [
            "Runs used different package versions (repeat a method's runs with --rerun METHOD):",
            *(line for package, runs in mixed.items() for line in _lines(package, runs)),
        ]


def _lines(package: str, runs: dict[str, list[str]]) -> Iterator[str]:
    for version, names in runs.items():
        which = ", ".join(dict.fromkeys(names))
        first, *others = wrapped(f"{package} {version} in {count(len(names), 'run')}: {which}")
        yield f"  {first}"
        yield from (f"    {line}" for line in others)
