"""The numbers drawn from accuracies inside experiences, by hand and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.metrics import curves
from tests import oracles

NAN = math.nan

# Every second mini-batch; the first experience has 4, the second 5.
POINTS = [
    (0, 0, [0.1, NAN]),
    (0, 2, [0.6, NAN]),
    (0, 4, [0.9, NAN]),
    (1, 0, [NAN, 0.2]),
    (1, 2, [0.3, 0.5]),
    (1, 4, [0.5, 0.6]),
    (1, 5, [0.7, 0.8]),
]


def of(points, every=2, is_mixed=False):
    experience, batch, accuracy = zip(*points, strict=True)
    return curves.AccuracyCurves(
        every, np.array(experience), np.array(batch), np.array(accuracy), is_mixed
    )


BY_HAND = [
    ("average_anytime_accuracy", (0.6 + 0.9 + 0.8 / 2 + 1.1 / 2 + 1.5 / 2) / 5),
    ("average_minimum_accuracy", 0.3),
    ("worst_case_accuracy", 0.8 / 2 + 0.3 / 2),
    # It falls to 0.3, and is 0.7 again at the end.
    ("stability_gap", 0.7 - 0.3),
    # After 0, 2 and 4 mini-batches of each.
    ("learning_curve_area", ((0.1 + 0.2) / 2 + (0.6 + 0.5) / 2 + (0.9 + 0.6) / 2) / 3),
]


@pytest.mark.parametrize(("name", "expected"), BY_HAND)
def test_number_by_hand(name, expected):
    assert getattr(curves, name)(of(POINTS)) == pytest.approx(expected)


def test_area_up_to_a_mini_batch_by_hand():
    assert curves.learning_curve_area(of(POINTS), beta=0) == pytest.approx((0.1 + 0.2) / 2)
    first_two = ((0.1 + 0.2) / 2 + (0.6 + 0.5) / 2) / 2
    assert curves.learning_curve_area(of(POINTS), beta=2) == pytest.approx(first_two)


@pytest.mark.parametrize("beta", [1, 3])
def test_area_between_two_evaluations_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta must be a multiple of 2.*but is {beta}"):
        curves.learning_curve_area(of(POINTS), beta)


@pytest.mark.parametrize("beta", [-1, 5])
def test_area_beyond_the_shortest_experience_is_refused(beta):
    with pytest.raises(ValueError, match=f"beta must be from 0 to 4.*but is {beta}"):
        curves.learning_curve_area(of(POINTS), beta)


def test_evaluations_beyond_an_experience_leave_what_is_inside_undefined():
    """LCA would be the untrained accuracy, and the gap 0, however far accuracies fall."""
    rare = [POINTS[0], POINTS[2], POINTS[3], POINTS[6]]
    summary = curves.curve_summary(of(rare, every=10))
    assert summary["stability_gap"] is summary["LCA"] is None
    assert summary["WC_ACC"] == pytest.approx(0.8 / 2 + 0.7 / 2)
    # Evaluated after its fourth mini-batch, the last of the first experience alone.
    some = curves.curve_summary(of([*rare[:3], POINTS[5], rare[3]], every=4))
    assert some["LCA"] == pytest.approx((0.1 + 0.2 + 0.9 + 0.6) / 4)
    assert some["stability_gap"] == pytest.approx(0.7 - 0.5)


def test_an_experience_without_an_evaluation_inside_it_has_no_gap():
    short = [*POINTS, (2, 0, [NAN, NAN, 0.1]), (2, 1, [0.2, 0.2, 0.9])]
    three = [(k, n, [*row, *[NAN] * (3 - len(row))]) for k, n, row in short]
    assert curves.stability_gap(of(three)) == pytest.approx(0.7 - 0.3)


def test_area_of_a_result_is_up_to_the_mini_batch_that_was_asked_for():
    by_beta = {beta: curves.curve_summary(of(POINTS), beta)["LCA"] for beta in (None, 2, 4, 6)}
    assert by_beta[2] == pytest.approx(curves.learning_curve_area(of(POINTS), beta=2))
    assert by_beta[4] == by_beta[None]
    assert by_beta[6] is None


def test_what_is_lost_for_good_is_no_gap():
    falling = [*POINTS[:4], (1, 2, [0.8, 0.5]), (1, 4, [0.7, 0.6]), (1, 5, [0.6, 0.8])]
    assert curves.stability_gap(of(falling)) == 0
    rising = [*POINTS[:4], (1, 2, [0.9, 0.5]), (1, 4, [0.95, 0.6]), (1, 5, [1.0, 0.8])]
    assert curves.stability_gap(of(rising)) == 0


def test_one_experience_has_nothing_to_forget():
    one = of(POINTS[:3])
    assert curves.curve_summary(one) == {
        "AAA": pytest.approx(0.75),
        "WC_ACC": 0.9,
        "min_ACC": None,
        "stability_gap": None,
        "LCA": pytest.approx(1.6 / 3),
    }


def test_of_samples_in_random_order_the_mean_over_all_is_defined_alone():
    mixed = of([(0, 2, [0.2, 0.4]), (0, 3, [0.6, 0.8])], is_mixed=True)
    expected = dict.fromkeys(curves.CURVE_METRICS)
    assert curves.curve_summary(mixed) == {**expected, "AAA": pytest.approx(0.5)}


@st.composite
def points_of_experiences(draw):
    """One to four experiences of 1 to 7 mini-batches, evaluated at every n-th and at the end."""
    n, every = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    accuracy = st.floats(0, 1)
    points = []
    for k in range(n):
        length = draw(st.integers(1, 7))
        points.append((k, 0, [draw(accuracy) if j == k else NAN for j in range(n)]))
        for b in sorted({*range(every, length + 1, every), length}):
            points.append((k, b, [draw(accuracy) if j <= k else NAN for j in range(n)]))
    return points, every


@given(points_of_experiences())
def test_numbers_equal_plain_loops(drawn):
    points, every = drawn
    ours = of(points, every)
    shortest = min(max(b for k, b, _ in points if k == i) for i in range(points[-1][0] + 1))
    pairs = [
        (curves.average_anytime_accuracy(ours), oracles.anytime_accuracy_by_loops(points)),
        (curves.average_minimum_accuracy(ours), oracles.minimum_accuracy_by_loops(points)),
        (curves.worst_case_accuracy(ours), oracles.worst_case_accuracy_by_loops(points)),
        (curves.stability_gap(ours), oracles.stability_gap_by_loops(points)),
        (
            curves.learning_curve_area(ours),
            oracles.learning_curve_area_by_loops(points, every, shortest)
            if every <= shortest
            else NAN,
        ),
    ]
    for number, slow in pairs:
        assert number == pytest.approx(slow, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0, 0, [0.5])], r"batch must be at least 1 in some row, but is \[0\]"),
        ([(1, 2, [0.5, 0.5]), (0, 2, [0.5, NAN])], r"experience must not decrease.*\[1, 0\]"),
        ([(2, 2, [0.5, 0.5])], r"must be the index of a test experience, but is \[2\]"),
        ([(0, 2, [50.0])], r"accuracy must be in \[0, 1\] or nan, but has 50"),
        ([(1, 2, [0.5, NAN])], "a value for each experience seen"),
    ],
)
def test_what_are_no_curves_is_refused(points, message):
    with pytest.raises(ValueError, match=message):
        of(points)
