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
SIZES = [10, 20, 50]

BY_HAND = [
    ("average_accuracy", (R,), (0.5 + 0.6 + 1.0) / 3),
    ("instance_accuracy", (R, SIZES), (5 + 12 + 50) / 80),
    ("backward_transfer", (R,), ((0.5 - 0.8) + (0.6 - 0.7)) / 2),
    ("forward_transfer", (R, UNTRAINED), ((0.3 - 0.2) + (0.2 - 0.3)) / 2),
    ("average_forgetting", (R,), ((0.9 - 0.5) + (0.7 - 0.6)) / 2),
    ("average_intransigence", (R, BEST), (0.1 + 0.2 - 0.1) / 3),
    ("average_incremental_accuracy", (R,), (0.8 + 1.6 / 2 + 2.1 / 3) / 3),
    ("learning_accuracy", (R,), (0.8 + 0.7 + 1.0) / 3),
    # After two of the three experiences, only those two count.
    ("average_accuracy", (R[:2],), (0.9 + 0.7) / 2),
    ("instance_accuracy", (R[:2], SIZES), (9 + 14) / 30),
    ("backward_transfer", (R[:2],), 0.9 - 0.8),
    ("forward_transfer", (R[:2], UNTRAINED), 0.3 - 0.2),
    ("average_forgetting", (R[:2],), 0.8 - 0.9),
    ("average_intransigence", (R[:2], BEST), (0.1 + 0.2) / 2),
    ("average_incremental_accuracy", (R[:2],), (0.8 + 1.6 / 2) / 2),
    ("learning_accuracy", (R[:2],), (0.8 + 0.7) / 2),
    # After the first, nothing can have been forgotten or transferred.
    ("average_accuracy", (R[:1],), 0.8),
    ("instance_accuracy", (R[:1], SIZES), 0.8),
    ("backward_transfer", (R[:1],), math.nan),
    ("forward_transfer", (R[:1], UNTRAINED), math.nan),
    ("average_forgetting", (R[:1],), math.nan),
    ("average_intransigence", (R[:1], BEST), 0.1),
    ("average_incremental_accuracy", (R[:1],), 0.8),
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
        (
            matrix.average_incremental_accuracy(table),
            oracles.incremental_accuracy_by_loops(table),
        ),
    ]
    for ours, slow in pairs:
        assert ours == pytest.approx(slow, abs=1e-12)


@given(matrices_with_rows(), st.lists(st.integers(1, 30), min_size=7, max_size=7))
def test_instance_accuracy_equals_a_plain_loop(
    drawn: tuple[list[Row], Row, Row], sizes: list[int]
) -> None:
    table, _, _ = drawn
    sizes = sizes[: len(table[0])]
    assert matrix.instance_accuracy(table, sizes) == pytest.approx(
        oracles.instance_accuracy_by_loops(table, sizes), abs=1e-12
    )


@given(matrices_with_rows(), st.integers(1, 10_000))
def test_instance_accuracy_is_acc_where_experiences_are_of_one_size(
    drawn: tuple[list[Row], Row, Row], size: int
) -> None:
    table, _, _ = drawn
    assert matrix.instance_accuracy(table, [size] * len(table[0])) == pytest.approx(
        matrix.average_accuracy(table), abs=1e-12
    )


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
    assert matrix.summary(R, UNTRAINED, SIZES) == {
        "ACC": pytest.approx(0.7),
        "average_incremental_accuracy": pytest.approx(2.3 / 3),
        "instance_accuracy": pytest.approx(67 / 80),
        "BWT": pytest.approx(-0.2),
        "FWT": pytest.approx(0.0),
        "forgetting": pytest.approx(0.25),
        "learning_accuracy": pytest.approx(2.5 / 3),
    }


def test_summary_of_one_experience_leaves_undefined_numbers_empty() -> None:
    assert matrix.summary([[0.8]], [0.1], [30]) == {
        "ACC": 0.8,
        "average_incremental_accuracy": 0.8,
        "instance_accuracy": 0.8,
        "BWT": None,
        "FWT": None,
        "forgetting": None,
        "learning_accuracy": 0.8,
    }


def test_summary_without_the_untrained_model_leaves_only_forward_transfer_empty() -> None:
    numbers = matrix.summary(R, None, SIZES)
    assert [name for name, number in numbers.items() if number is None] == ["FWT"]


def test_summary_without_sizes_leaves_only_instance_accuracy_empty() -> None:
    numbers = matrix.summary(R, UNTRAINED)
    assert [name for name, number in numbers.items() if number is None] == ["instance_accuracy"]


def test_arguments_are_not_changed() -> None:
    table, b, sizes = np.array(R), np.array(UNTRAINED), np.array(SIZES)
    matrix.summary(table, b, sizes)
    np.testing.assert_array_equal(table, R)
    np.testing.assert_array_equal(b, UNTRAINED)
    np.testing.assert_array_equal(sizes, SIZES)


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
        matrix.average_incremental_accuracy,
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


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([10, 20], r"one entry per column of R, \(3,\), but has shape \(2,\)"),
        ([10, 0, 50], r"must hold numbers of samples greater than 0, but sizes\[1\] is 0\.0"),
        ([-1, 20, 50], r"sizes\[0\] is -1\.0"),
        ([10, 20, math.nan], r"sizes\[2\] is nan"),
        ([10, 20, math.inf], r"sizes\[2\] is inf"),
    ],
)
def test_what_are_no_sizes_is_refused(sizes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^sizes.*{message}"):
        matrix.instance_accuracy(R, sizes)
