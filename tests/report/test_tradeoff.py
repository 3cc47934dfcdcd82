"""Domination and the Pareto front, against definitions spelt out in loops."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.report.statistics import Estimate, method_statistics
from avalanche_ext.report.tradeoff import (
    Point,
    beyond,
    n_dominated,
    pareto_front,
    settings_points,
    tradeoff_points,
)
from avalanche_ext.results.experiment import read_results
from tests.results.trees import two_by_two, write_experiment, write_points, write_result

# Few different values, so that points are often equal in one mean or both.
MEANS = st.tuples(*[st.integers(0, 4).map(lambda n: n / 4)] * 2)


def point(means: tuple[float, float]) -> Point:
    return Point(*(Estimate(mean, None, 1) for mean in means))


def slow_dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """By cases: better in one and better or equal in the other."""
    if a[0] > b[0]:
        return a[1] > b[1] or a[1] == b[1]
    if a[0] == b[0]:
        return a[1] > b[1]
    return False


@given(st.lists(MEANS, max_size=8))
def test_the_front_is_what_no_point_dominates(means: list[tuple[float, float]]) -> None:
    expected = set()
    for i, one in enumerate(means):
        betters = [other for other in means if slow_dominates(other, one)]
        if len(betters) == 0:
            expected.add(str(i))
    points = {str(i): point(each) for i, each in enumerate(means)}
    assert pareto_front(points, {}) == expected
    assert pareto_front(points, dict.fromkeys(points, "lam")) == expected


def test_settings_are_on_the_front_of_their_own_parameter() -> None:
    points = {
        "lr-1": point((0.9, -0.1)),
        "lr-2": point((0.8, -0.2)),
        "lam-1": point((0.7, -0.3)),
        "lam-2": point((0.6, -0.4)),
    }
    parameters = {name: name.partition("-")[0] for name in points}
    assert pareto_front(points, parameters) == {"lr-1", "lam-1"}
    # What is not swept is compared with all.
    better = {**points, "alone": point((0.75, -0.25))}
    assert pareto_front(better, parameters) == {"lr-1"}
    worse = {**points, "alone": point((0.65, -0.35))}
    assert pareto_front(worse, parameters) == {"lr-1", "lam-1"}


@given(st.lists(MEANS, max_size=6), st.lists(MEANS, max_size=6))
def test_each_of_their_points_counts_once(
    ours: list[tuple[float, float]], theirs: list[tuple[float, float]]
) -> None:
    expected = 0
    for their in theirs:
        n_better = 0
        for our in ours:
            if slow_dominates(our, their):
                n_better += 1
        if n_better > 0:
            expected += 1
    assert n_dominated([*map(point, ours)], [*map(point, theirs)]) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.9, -0.1), (0.8, -0.2), True),
        ((0.9, -0.1), (0.9, -0.2), True),
        ((0.9, -0.1), (0.9, -0.1), False),
        ((0.9, -0.3), (0.8, -0.2), False),
        # Not better, but rounded differently.
        ((0.1 + 0.2, -0.1), (0.3, -0.1), False),
        ((0.3, 0.1 - 0.4), (0.3, -0.3), False),
    ],
)
def test_domination_by_example(
    a: tuple[float, float], b: tuple[float, float], expected: bool
) -> None:
    assert point(a).dominates(point(b)) is expected


def test_points_are_the_means_of_learning_accuracy_and_bwt(tmp_path: Path) -> None:
    sweeps = {"x": ("lam", {"x-0": 0, "x-1": 1}), "y": ("lam", {"y-0": 0})}
    write_points(tmp_path, {"a": (0.9, -0.2), "x-0": (0.8, -0.1), "x-1": (0.7, 0.05)}, sweeps)
    results = read_results(tmp_path)
    points = tradeoff_points(method_statistics(results))
    assert {name: each.means for name, each in points.items()} == {
        "a": (0.9, -0.2),
        "x-0": (0.8, -0.1),
        "x-1": (0.7, 0.05),
    }
    assert settings_points(results, points) == {"lam": {"x": [points["x-0"], points["x-1"]]}}


def test_without_runs_or_with_one_experience_there_is_no_point(tmp_path: Path) -> None:
    write_experiment(tmp_path / "one", ["a", "b"], [0])
    write_result(tmp_path / "one", "a", 0, [[0.9]])
    assert not tradeoff_points(method_statistics(read_results(tmp_path / "one")))
    write_experiment(tmp_path / "two", ["a", "b"], [0])
    write_result(tmp_path / "two", "a", 0, two_by_two(0.5))
    assert [*tradeoff_points(method_statistics(read_results(tmp_path / "two")))] == ["a"]


def test_far_outliers_are_named_and_those_on_the_front_are_not():
    near = {f"m-{i}": point((0.80 + 0.002 * i, 0.02 - 0.004 * i)) for i in range(8)}
    far = {"diverged": point((0.3, -0.4)), "forgets": point((0.80, -0.4))}
    assert beyond({**near, **far}, {}) == {"diverged", "forgets"}
    assert beyond(near, {}) == set()
    assert beyond({**near, "best": point((0.99, 0.5))}, {}) == set()
    assert beyond({"one": point((0.5, 0.1))}, {}) == set()
    # Alone of its parameter, it is on that front.
    parameters = {**dict.fromkeys(near, "lr"), "forgets": "lam"}
    assert beyond({**near, "forgets": far["forgets"]}, parameters) == set()
