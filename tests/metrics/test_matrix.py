"""The numbers drawn from R, against hand-computed tables and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.metrics import matrix
from tests import oracles

# Experience 0 improves before it is forgotten: its best is 0.9, one row after it was learned.
R = [
    [0.8, 0.3, 0.1],
    [0.9, 0.7, 0.2],
    [0.5, 0.6, 1.0],
]
UNTRAINED = [0.1, 0.2, 0.3]
BEST = [0.9, 0.9, 0.9]

BY_HAND = [
    ("average_accuracy", (R,), (0.5 + 0.6 + 1.0) / 3),
    ("backward_transfer", (R,), ((0.5 - 0.8) + (0.6 - 0.7)) / 2),
    ("forward_transfer", (R, UNTRAINED), ((0.3 - 0.2) + (0.2 - 0.3)) / 2),
    ("average_forgetting", (R,), ((0.9 - 0.5) + (0.7 - 0.6)) / 2),
    ("average_intransigence", (R, BEST), (0.1 + 0.2 - 0.1) / 3),
    ("learning_accuracy", (R,), (0.8 + 0.7 + 1.0) / 3),
    # After two of the three experiences, only those two count.
    ("average_accuracy", (R[:2],), (0.9 + 0.7) / 2),
    ("backward_transfer", (R[:2],), 0.9 - 0.8),
    ("forward_transfer", (R[:2], UNTRAINED), 0.3 - 0.2),
    ("average_forgetting", (R[:2],), 0.8 - 0.9),
    ("average_intransigence", (R[:2], BEST), (0.1 + 0.2) / 2),
    ("learning_accuracy", (R[:2],), (0.8 + 0.7) / 2),
    # After the first, nothing can have been forgotten or transferred.
    ("average_accuracy", (R[:1],), 0.8),
    ("backward_transfer", (R[:1],), math.nan),
    ("forward_transfer", (R[:1], UNTRAINED), math.nan),
    ("average_forgetting", (R[:1],), math.nan),
    ("average_intransigence", (R[:1], BEST), 0.1),
    ("learning_accuracy", (R[:1],), 0.8),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), BY_HAND)
def test_number_by_hand(name: str, arguments: tuple[Any, ...], expected: float) -> None:
    assert getattr(matrix, name)(*arguments) == pytest.approx(expected, nan_ok=True)


def test_forgetting_is_not_minus_backward_transfer() -> None:
    assert matrix.average_forgetting(R) > -matrix.backward_transfer(R)


Row = list[float]


@st.composite
def matrices_with_rows(draw: st.DrawFn) -> tuple[list[Row], Row, Row]:
    columns = draw(st.integers(2, 7))
    rows = draw(st.integers(2, columns))
    accuracies = st.lists(st.floats(0, 1), min_size=columns, max_size=columns)
    table = draw(st.lists(accuracies, min_size=rows + 2, max_size=rows + 2))
    return table[2:], table[0], table[1]


@given(matrices_with_rows())
def test_numbers_equal_plain_loops(drawn: tuple[list[Row], Row, Row]) -> None:
    table, b, best = drawn
    pairs = [
        (matrix.average_accuracy(table), oracles.accuracy_by_loops(table)),
        (matrix.backward_transfer(table), oracles.backward_transfer_by_loops(table)),
        (matrix.forward_transfer(table, b), oracles.forward_transfer_by_loops(table, b)),
        (matrix.average_forgetting(table), oracles.forgetting_by_loops(table)),
        (matrix.average_intransigence(table, best), oracles.intransigence_by_loops(table, best)),
        (matrix.learning_accuracy(table), oracles.learning_accuracy_by_loops(table)),
    ]
    for ours, slow in pairs:
        assert ours == pytest.approx(slow, abs=1e-12)


@given(matrices_with_rows())
def test_accuracy_splits_into_what_was_learned_and_what_changed(
    drawn: tuple[list[Row], Row, Row],
) -> None:
    table, _, _ = drawn
    t = len(table)
    changed = matrix.backward_transfer(table) * (t - 1) / t
    assert matrix.average_accuracy(table) == pytest.approx(
        matrix.learning_accuracy(table) + changed, abs=1e-12
    )


def test_summary_names_every_number_that_needs_one_run() -> None:
    assert matrix.summary(R, UNTRAINED) == {
        "ACC": pytest.approx(0.7),
        "BWT": pytest.approx(-0.2),
        "FWT": pytest.approx(0.0),
        "forgetting": pytest.approx(0.25),
        "learning_accuracy": pytest.approx(2.5 / 3),
    }


def test_summary_of_one_experience_leaves_undefined_numbers_empty() -> None:
    assert matrix.summary([[0.8]], [0.1]) == {
        "ACC": 0.8,
        "BWT": None,
        "FWT": None,
        "forgetting": None,
        "learning_accuracy": 0.8,
    }


def test_summary_without_the_untrained_model_leaves_only_forward_transfer_empty() -> None:
    numbers = matrix.summary(R, None)
    assert [name for name, number in numbers.items() if number is None] == ["FWT"]


def test_arguments_are_not_changed() -> None:
    table, b = np.array(R), np.array(UNTRAINED)
    matrix.summary(table, b)
    np.testing.assert_array_equal(table, R)
    np.testing.assert_array_equal(b, UNTRAINED)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], r"shape \(0,\)"),
        ([0.5, 0.5], r"shape \(2,\)"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        ([[0.5], [0.5]], r"shape \(2, 1\)"),
        ([[0.5, 0.5], [0.5, 80.0]], r"R\[1, 1\] is 80\.0"),
        ([[0.5, -0.1]], r"R\[0, 1\] is -0\.1"),
        ([[0.5, math.nan]], r"R\[0, 1\] is nan"),
        ([[math.inf]], r"R\[0, 0\] is inf"),
    ],
)
def test_what_is_no_transfer_matrix_is_refused(table: Any, message: str) -> None:
    for function in (
        matrix.average_accuracy,
        matrix.backward_transfer,
        matrix.average_forgetting,
        matrix.learning_accuracy,
    ):
        with pytest.raises(ValueError, match=message):
            function(table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.1, 0.2], r"must have one entry per column of R, \(3,\), but has shape \(2,\)"),
        (0.1, r"shape \(\)"),
        ([0.1, 0.2, math.nan], r"\[2\] is nan"),
        ([0.1, 1.2, 0.3], r"\[1\] is 1\.2"),
    ],
)
def test_what_is_no_row_of_accuracies_is_refused(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^b.*{message}"):
        matrix.forward_transfer(R, row)
    with pytest.raises(ValueError, match=f"^best.*{message}"):
        matrix.average_intransigence(R, row)
