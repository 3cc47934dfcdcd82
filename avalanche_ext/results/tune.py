"""The settings that a hyper-parameter search tried on validation samples, and its choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

HIGHER_IS_BETTER = {
    "ACC": True,
    "average_incremental_accuracy": True,
    "instance_accuracy": True,
    "BWT": True,
    "FWT": True,
    "learning_accuracy": True,
    "forgetting": False,
}
"""The metrics that a search can use, and whether higher is better."""

OF_SEVERAL = ("BWT", "FWT", "forgetting")
"""The metrics that need at least two experiences."""

OF_THE_END = ("ACC", "instance_accuracy")
"""The metrics that are defined for methods trained on all experiences at once."""

EXTREMES = ("smallest", "largest")
"""The ends of a list of numbers."""

_DECIMALS = 12
"""Accuracies are ratios of counts: beyond these decimals they differ only by rounding."""


@dataclass(frozen=True)
class Tried:
    """One setting that a search has tried.

    Attributes:
        values: The parameters' values by path.
        scores: The metric of each finished run, by tuning seed.
        failures: The reasons why the other runs have no score, by tuning seed.
    """

    values: Mapping[str, Any]
    scores: Mapping[int, float]
    failures: Mapping[int, str] = field(default_factory=dict)

    def has_ended(self, seeds: Sequence[int]) -> bool:
        """Return whether the runs with all these seeds have a score or have failed."""
        return all(seed in self.scores or seed in self.failures for seed in seeds)

    @property
    def mean(self) -> float:
        """Mean score over the tuning seeds."""
        return fmean(self.scores.values())

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the scores; None for a single one."""
        return _std([*self.scores.values()])


@dataclass(frozen=True)
class Margin:
    """How much better one setting is than another, paired by tuning seed.

    Attributes:
        mean: Mean difference; positive is better for every metric.
        std: Sample standard deviation of the differences; None for a single seed.
    """

    mean: float
    std: float | None


@dataclass(frozen=True)
class Choice:
    """The hyper-parameters of one method, chosen on validation samples.

    Attributes:
        method: Name of the method.
        metric: The metric compared, one of HIGHER_IS_BETTER.
        experiences: Number of experiences that the settings were trained on.
        validation_per_experience: Number of samples of each that were held out of training and
            evaluated.
        sampler: The source of the settings: "grid", "random" or "tpe".
        seeds: The tuning seeds.
        searched: The values that each path could take.
        tried: The settings by name, in the order of their proposal.
        chosen: Name of the best setting.
        bounds: By path, the EXTREMES of its numbers that are limits of the valid range.
    """

    method: str
    metric: str
    experiences: int
    validation_per_experience: int
    sampler: str
    seeds: Sequence[int]
    searched: Mapping[str, Sequence[Any]]
    tried: Mapping[str, Tried]
    chosen: str
    bounds: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def values(self) -> Mapping[str, Any]:
        """The chosen values by path."""
        return self.tried[self.chosen].values

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher metric is better."""
        return HIGHER_IS_BETTER[self.metric]

    @cached_property
    def ranking(self) -> tuple[str, ...]:
        """Names of the settings that have a score for every seed, the best first."""
        return ranking(self.tried, self.seeds, self.metric)

    @property
    def runner_up(self) -> str | None:
        """Name of the second-best setting; None if no other has a score for every seed."""
        others = [name for name in self.ranking if name != self.chosen]
        return others[0] if others else None

    @property
    def margin(self) -> Margin | None:
        """The margin of the chosen setting over the runner-up; None if there is none."""
        if self.runner_up is None:
            return None
        ours, theirs = self.tried[self.chosen].scores, self.tried[self.runner_up].scores
        sign = 1 if self.higher_is_better else -1
        differences = [round(sign * (ours[seed] - theirs[seed]), _DECIMALS) for seed in self.seeds]
        return Margin(fmean(differences), _std(differences))

    @property
    def without_score(self) -> dict[str, str]:
        """Settings that could not be chosen because a run has failed, with the first reason."""
        return {
            name: next(iter(tried.failures.values()))
            for name, tried in self.tried.items()
            if tried.failures
        }

    def at_edges(self) -> Iterator[tuple[str, str]]:
        """Yield the paths whose chosen value is the smallest or largest number of its list.

        Each comes with "smallest" or "largest". A better value may lie beyond it, if the range
        allows.
        """
        for path, options in self.searched.items():
            if len(options) < 2 or not are_numbers(options):
                continue
            for extreme, of in zip(EXTREMES, (min, max), strict=True):
                is_free = extreme not in self.bounds.get(path, ())
                if is_free and self.values[path] == of(options):
                    yield path, extreme


def parameter_name(path: str) -> str:
    """Return a path's last name: `lam` of `plugins[1].drl.lam`, `betas` of `optimizer.betas[0]`."""
    return re.sub(r"\[\d+\]", "", path).rpartition(".")[2]


def value_text(value: Any) -> str:
    """Return a searched value as in YAML.

    >>> value_text(True), value_text([100, 100]), value_text("Adam"), value_text(1e-05)
    ('true', '[100, 100]', 'Adam', '1e-05')
    """
    return value if isinstance(value, str) else json.dumps(value)


def ranking(tried: Mapping[str, Tried], seeds: Sequence[int], metric: str) -> tuple[str, ...]:
    """Return the names of the settings that have a score for every seed, the best first.

    Among equally good settings, the one proposed first comes first.
    """
    whole = [name for name, each in tried.items() if all(seed in each.scores for seed in seeds)]
    sign = -1 if HIGHER_IS_BETTER[metric] else 1
    return tuple(sorted(whole, key=lambda name: sign * round(tried[name].mean, _DECIMALS)))


def read_choice(content: Mapping[str, Any]) -> Choice:
    """Return the choice described by plain data from record.yaml.

    Raises:
        KeyError: If an entry is missing.
        TypeError: If an entry has another form.
        ValueError: If an entry has another value.
    """
    tried = {
        str(name): Tried(
            dict(each["values"]),
            {int(seed): float(score) for seed, score in each["scores"].items()},
            {int(seed): str(why) for seed, why in (each.get("failures") or {}).items()},
        )
        for name, each in content["tried"].items()
    }
    choice = Choice(
        method=str(content["method"]),
        metric=str(content["metric"]),
        experiences=int(content["experiences"]),
        validation_per_experience=int(content["validation_per_experience"]),
        sampler=str(content["sampler"]),
        seeds=[int(seed) for seed in content["seeds"]],
        searched={str(path): [*options] for path, options in content["searched"].items()},
        tried=tried,
        chosen=str(content["chosen"]),
        bounds={str(path): [*map(str, ends)] for path, ends in content.get("bounds", {}).items()},
    )
    if choice.metric not in HIGHER_IS_BETTER or choice.chosen not in choice.ranking:
        raise ValueError(f"the choice of {choice.method!r} is not one of its settings")
    return choice


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are numbers and so can be ordered."""
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
