"""Paired tests as text: rows, intervals, and a caution where there are few pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from avalanche_ext.report.layout import NONE, aligned, number, p_value, plus_minus, wrapped
from avalanche_ext.report.paired import FEWEST_PAIRS, PairedTest


def comparison_lines(first: str, tests: Mapping[str, PairedTest]) -> list[str]:
    """A table of tests, and a caution below it where some rest on few pairs.

    Columns of what no test defines are left out.

    Args:
        first: The first column's title.
        tests: The tests, by what stands in the first column.
    """
    rows = [[first, *tests], *([title, *cells] for title, cells in comparison_columns(tests))]
    return [*aligned([[*row] for row in zip(*rows, strict=True)]), *caution(tests)]


def comparison_columns(tests: Mapping[str, PairedTest]) -> list[tuple[str, list[str]]]:
    """The titles and texts of a table of tests, one a row, without what no test defines."""
    columns: list[tuple[str, list[str]]] = [
        ("difference", [plus_minus(test.difference, signed=True) for test in tests.values()]),
        ("95 % interval", [interval_text(test.interval) for test in tests.values()]),
        ("d", [_effect(test) for test in tests.values()]),
        ("wins", [wins_text(test) for test in tests.values()]),
        ("t-test p", [p_value(test.t_test) for test in tests.values()]),
        ("Holm p", [p_value(test.t_test_holm) for test in tests.values()]),
        ("Wilcoxon p", [p_value(test.wilcoxon) for test in tests.values()]),
        ("Holm p", [p_value(test.wilcoxon_holm) for test in tests.values()]),
    ]
    return [(title, cells) for title, cells in columns if {*cells} != {NONE}]


def interval_text(
    interval: tuple[float, float] | None, decimals: int = 3, signed: bool = True
) -> str:
    """An interval as "[-0.010, +0.012]", or NONE."""
    if interval is None:
        return NONE
    low, high = (number(end, decimals, signed) for end in interval)
    return f"[{low}, {high}]"


def wins_text(test: PairedTest) -> str:
    """How many pairs were won, as "4/5", or NONE without pairs."""
    return f"{test.wins:g}/{test.n_pairs}" if test.n_pairs else NONE


def _effect(test: PairedTest) -> str:
    return NONE if test.effect is None else number(test.effect, 1, signed=True)


def caution(tests: Mapping[str, PairedTest]) -> Iterator[str]:
    """Yield the lines that warn of tests with fewer than FEWEST_PAIRS pairs, if there are any."""
    few = {name: test.n_pairs for name, test in tests.items() if test.n_pairs < FEWEST_PAIRS}
    if not few:
        return
    if len(few) == len(tests) and len({*few.values()}) == 1:
        which = f"only {next(iter(few.values()))} seeds"
    else:
        which = f"fewer than {FEWEST_PAIRS} seeds: " + ", ".join(
            f"{name} {n}" for name, n in few.items()
        )
    yield from wrapped(f"Caution: too few pairs for sound tests and intervals ({which}).")
