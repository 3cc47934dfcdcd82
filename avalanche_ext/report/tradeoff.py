"""Learning against forgetting: points, the Pareto front and domination."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.estimates import DECIMALS, Estimate
from avalanche_ext.report.rows import usual_range
from avalanche_ext.report.statistics import MethodStatistics
from avalanche_ext.results.experiment import ExperimentResults


@dataclass(frozen=True)
class Point:
    """A method's learning accuracy and BWT over its runs; higher is better for both."""

    learning_accuracy: Estimate
    bwt: Estimate

    @property
    def means(self) -> tuple[float, float]:
        """Both means, rounded to DECIMALS."""
        return round(self.learning_accuracy.mean, DECIMALS), round(self.bwt.mean, DECIMALS)

    def dominates(self, other: Point) -> bool:
        """Return whether this is at least as good in both means, and better in one."""
        pairs = [*zip(self.means, other.means, strict=True)]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def tradeoff_points(statistics: Iterable[MethodStatistics]) -> dict[str, Point]:
    """Return every method's point by name; none without runs or with a single experience."""
    both = {
        each.name: (each.metrics["learning_accuracy"], each.metrics["BWT"]) for each in statistics
    }
    return {name: Point(x, y) for name, (x, y) in both.items() if x and y}


def swept_parameters(results: ExperimentResults) -> dict[str, str]:
    """Return the swept parameter of each setting, by the setting's name."""
    return {
        setting: sweep.parameter for sweep in results.sweeps.values() for setting in sweep.values
    }


def pareto_front(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """Return the names of the points that no other dominates; of equal points, all or none.

    Settings of different parameters are not compared, since one may have more settings than the
    other.

    Args:
        points: The points by their methods' names.
        parameters: `swept_parameters` of the methods.
    """

    def meet(one: str, other: str) -> bool:
        both = parameters.get(one), parameters.get(other)
        return None in both or both[0] == both[1]

    return {
        name
        for name, point in points.items()
        if not any(other.dominates(point) and meet(name, rival) for rival, other in points.items())
    }


def settings_points(
    results: ExperimentResults, points: Mapping[str, Point]
) -> dict[str, dict[str, list[Point]]]:
    """Return the points of each swept method's settings, if any, by parameter and method."""
    by_parameter: dict[str, dict[str, list[Point]]] = {}
    for name, sweep in results.sweeps.items():
        found = [points[setting] for setting in sweep.values if setting in points]
        if found:
            by_parameter.setdefault(sweep.parameter, {})[name] = found
    return by_parameter


def beyond(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """Return the names of far outliers, which would crowd all other points into a corner.

    They lie more than three interquartile ranges outside the quartiles (Tukey 1977) in learning
    accuracy or BWT, and not on the Pareto front. The arguments are those of `pareto_front`.
    """
    means = np.array([point.means for point in points.values()])
    least, greatest = usual_range(means)
    outside = ((means < least) | (means > greatest)).any(axis=1)
    front = pareto_front(points, parameters)
    return {
        name for name, is_far in zip(points, outside, strict=True) if is_far and name not in front
    }


def n_dominated(ours: Sequence[Point], theirs: Sequence[Point]) -> int:
    """Count their points that are dominated by one of ours."""
    return sum(any(point.dominates(other) for point in ours) for other in theirs)
