"""Paired tests as text: rows, intervals, and a caution if there are few pairs."""

from __future__ import annotations

from collections.abc import Mapping

from avalanche_ext.report.layout import (
    NONE,
    aligned,
    number,
    p_value,
    plus_minus,
    wrapped,
)
from avalanche_ext.report.paired import (
    FEWEST_FOR_EFFECT,
    FEWEST_FOR_WILCOXON,
    FEWEST_PAIRS,
    PairedTest,
)
from avalanche_ext.words import count

_MOST_NAMED = 4
"""Maximum number of methods that a caution names one by one."""


def comparison_lines(first: str, tests: Mapping[str, PairedTest]) -> list[str]:
    """Return a table of tests, with the necessary remarks below.

    Columns that no test defines are left out, except the difference.

    Args:
        first: The first column's title.
        tests: The tests, by the text in the first column.
    """
    rows = [[first, *tests], *([title, *cells] for title, cells in comparison_columns(tests))]
    notes = [line for text in on_tests(tests) for line in wrapped(text)]
    return [*aligned([[*row] for row in zip(*rows, strict=True)]), *notes]


def comparison_columns(tests: Mapping[str, PairedTest]) -> list[tuple[str, list[str]]]:
    """Return titles and texts of a table of tests, one per row, without undefined columns.

    If all are undefined, the differences remain, as dashes.
    """
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
    return [column for column in columns if {*column[1]} != {NONE}] or columns[:1]


def interval_text(
    interval: tuple[float, float] | None, decimals: int = 3, signed: bool = True
) -> str:
    """An interval as "[-0.010, +0.012]", or NONE."""
    if interval is None:
        return NONE
    low, high = (number(end, decimals, signed) for end in interval)
    return f"[{low}, {high}]"


def wins_text(test: PairedTest) -> str:
    """Return the number of pairs won, as "4/5", or NONE without pairs."""
    return f"{test.wins:g}/{test.n_pairs}" if test.n_pairs else NONE


def _effect(test: PairedTest) -> str:
    return NONE if test.effect is None else number(test.effect, 1, signed=True)


def on_tests(tests: Mapping[str, PairedTest]) -> list[str]:
    """Return the remarks on a table of tests: a caution on few pairs, and the meaning of a dash."""
    if not any(test.n_pairs for test in tests.values()):
        return ["No tests: no seed has values of both methods."]
    cells = [cell for _, cells in comparison_columns(tests) for cell in cells]
    is_constant = any(test.n_pairs > 1 and test.t_test is None for test in tests.values())
    dash = (
        f"{NONE}: the differences do not vary, or there are too few pairs (a t-test needs 2, d "
        f"{FEWEST_FOR_EFFECT}, an interval {FEWEST_PAIRS}, Wilcoxon's test {FEWEST_FOR_WILCOXON})."
    )
    return [*caution(tests), *([dash] if NONE in cells or is_constant else [])]


def caution(tests: Mapping[str, PairedTest]) -> list[str]:
    """Return a warning of tests with fewer than FEWEST_PAIRS pairs, if there are any."""
    few = {name: test.n_pairs for name, test in tests.items() if test.n_pairs < FEWEST_PAIRS}
    if not few:
        return []
    if len(few) == len(tests) and len({*few.values()}) == 1:
        which = f"only {count(next(iter(few.values())), 'seed')}"
    elif len(few) <= _MOST_NAMED:
        named = ", ".join(f"{name} ({n})" for name, n in few.items())
        which = f"fewer than {FEWEST_PAIRS} seeds: {named}"
    else:
        which = f"fewer than {FEWEST_PAIRS} seeds: {len(few)} of {len(tests)} methods"
    return [f"Caution: too few pairs for reliable tests and intervals ({which})."]
