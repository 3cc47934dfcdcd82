"""Learning against forgetting: which methods no other betters on both, and who betters whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avalanche_ext.report.results import ExperimentResults
from avalanche_ext.report.statistics import DECIMALS, Estimate, MethodStatistics


@dataclass(frozen=True)
class Point:
    """A method's learning accuracy and BWT over its runs; of both, higher is better."""

    learning_accuracy: Estimate
    bwt: Estimate

    @property
    def means(self) -> tuple[float, float]:
        """Both means, without the decimals that are rounding only."""
        return round(self.learning_accuracy.mean, DECIMALS), round(self.bwt.mean, DECIMALS)

    def dominates(self, other: Point) -> bool:
        """Whether this is at least as good on both means, and better on one."""
        pairs = [*zip(self.means, other.means, strict=True)]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def tradeoff_points(statistics: Iterable[MethodStatistics]) -> dict[str, Point]:
    """Every method's point by its name; those without runs, or with one experience, have none."""
    both = {
        each.name: (each.metrics["learning_accuracy"], each.metrics["BWT"]) for each in statistics
    }
    return {name: Point(x, y) for name, (x, y) in both.items() if x and y}


def swept_parameters(results: ExperimentResults) -> dict[str, str]:
    """The parameter whose value a method is a setting of, by the method's name."""
    return {
        setting: sweep.parameter for sweep in results.sweeps.values() for setting in sweep.values
    }


def pareto_front(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """The names of the points that no other dominates; of equal points, all or none.

    Settings are not compared with those of another parameter, of which there may be more.

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
    """By parameter the points of each swept method's settings, of the methods that have any."""
    by_parameter: dict[str, dict[str, list[Point]]] = {}
    for name, sweep in results.sweeps.items():
        found = [points[setting] for setting in sweep.values if setting in points]
        if found:
            by_parameter.setdefault(sweep.parameter, {})[name] = found
    return by_parameter


def beyond(points: Mapping[str, Point], parameters: Mapping[str, str]) -> set[str]:
    """The names of far outliers, which would crowd all other points of a picture into a corner.

    They lie more than three interquartile ranges outside the quartiles (Tukey 1977) in learning
    accuracy or BWT, and not on `pareto_front`, of which the arguments are.
    """
    means = np.array([point.means for point in points.values()])
    lower, upper = np.quantile(means, [0.25, 0.75], axis=0)
    reach = 3 * (upper - lower)
    outside = ((means < lower - reach) | (means > upper + reach)).any(axis=1)
    front = pareto_front(points, parameters)
    return {
        name for name, is_far in zip(points, outside, strict=True) if is_far and name not in front
    }


def n_dominated(ours: Sequence[Point], theirs: Sequence[Point]) -> int:
    """How many of their points some point of ours dominates."""
    return sum(any(point.dominates(other) for point in ours) for other in theirs)
