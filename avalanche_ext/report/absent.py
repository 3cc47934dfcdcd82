"""Runs that are not in a table: failed ones, those not run yet, and those not asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from avalanche_ext.report.layout import wrapped
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.words import count

_MOST_REASONS = 10
"""Maximum number of failures' reasons that are listed."""


def absent_sections(results: ExperimentResults) -> Iterator[list[str]]:
    """Yield the lines of each section on missing runs and on results left out, if there are any.

    Methods that lack the same seeds share a line, and so do a method's runs that failed for the
    same reason.
    """
    failed: dict[tuple[str, str], list[int]] = {}
    missing: dict[tuple[int, ...], list[str]] = {}
    for method in results.methods:
        for seed, error in method.failures.items():
            failed.setdefault((method.name, error), []).append(seed)
        if method.missing:
            missing.setdefault(tuple(method.missing), []).append(method.name)
    if failed:
        lines = [f"{name}, {_seeds(seeds)}: {error}" for (name, error), seeds in failed.items()]
        if len(lines) > _MOST_REASONS:
            n_others = len(lines) - _MOST_REASONS
            lines[_MOST_REASONS:] = [f"and {n_others} more (see failure.json in their folders)"]
        yield [
            f"{count(sum(map(len, failed.values())), 'run')} failed:",
            *(f"  {line}" for line in lines),
        ]
    if missing:
        n_missing = sum(len(seeds) * len(names) for seeds, names in missing.items())
        yield [
            f"{count(n_missing, 'run')} missing (run the experiment again to finish them):",
            *_by_seeds(missing),
        ]
    unnamed: dict[tuple[int, ...], list[str]] = {}
    for name, found in results.unnamed.items():
        unnamed.setdefault(tuple(found), []).append(name)
    if unnamed:
        n_unnamed = sum(map(len, results.unnamed.values()))
        yield [
            f"Not in this report: {count(n_unnamed, 'result')} that record.yaml does not name (run "
            "their methods and seeds to add them):",
            *_by_seeds(unnamed),
        ]


def _by_seeds(names: Mapping[tuple[int, ...], Sequence[str]]) -> Iterator[str]:
    for seeds, methods in names.items():
        yield from (f"  {line}" for line in wrapped(f"{', '.join(methods)}: {_seeds(seeds)}"))


def _seeds(seeds: list[int] | tuple[int, ...]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
