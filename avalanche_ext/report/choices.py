"""Hyper-parameters chosen on validation samples: the margin, and the distance from list ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import NONE, aligned, plus_minus, wrapped
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.tune import Choice, parameter_name, value_text
from avalanche_ext.words import alternatives, count


@dataclass(frozen=True)
class ChoiceRow:
    """The choice for one method.

    Attributes:
        method: Its name.
        chosen: The chosen values, such as "lr 0.02, lam 0.0005".
        score: The metric on validation samples, over the tuning seeds.
        runner_up: The values of the next-best setting; None if there is no other.
        margin: The advantage of the chosen setting, paired by tuning seed; positive is better.
        settings: How many settings were tried, out of how many.
    """

    method: str
    chosen: str
    score: Estimate
    runner_up: str | None
    margin: Estimate | None
    settings: str


def choice_rows(results: ExperimentResults) -> list[ChoiceRow]:
    """Return the choice for each method whose hyper-parameters were searched."""
    return [_row(choice) for choice in results.choices]


def choice_notes(results: ExperimentResults) -> list[str]:
    """Return sentences on reasons to doubt the choices."""
    notes = [warning for choice in results.choices for warning in _warnings(choice)]
    unsure = [choice.method for choice in results.choices if _is_unsure(choice)]
    if unsure:
        n = len(results.choices[0].seeds)
        seeds = "one seed is" if n == 1 else f"{n} seeds are"
        notes.append(
            f"Caution: {seeds} too few to tell the chosen setting of {alternatives(unsure, 'and')} "
            "from the next best."
        )
    return notes


def choices_title(results: ExperimentResults) -> str:
    """Return a title on the samples and metric of the choices; empty if nothing was searched."""
    if not results.choices:
        return ""
    first = results.choices[0]
    better = "higher" if first.higher_is_better else "lower"
    seeds = f"{'seed' if len(first.seeds) == 1 else 'seeds'} {', '.join(map(str, first.seeds))}"
    where = "the first experience"
    if first.experiences > 1:
        where = f"each of the first {first.experiences} experiences"
    return (
        f"Hyper-parameters chosen by {first.metric} ({better} is better) on VALIDATION samples: "
        f"{first.validation_per_experience} held out from {where}; {seeds}"
    )


def choices_section(results: ExperimentResults) -> Iterator[list[str]]:
    """Return the lines of the report's section on the choices; empty if nothing was searched."""
    rows = choice_rows(results)
    if not rows:
        return
    table = [["method", "chosen", results.choices[0].metric, "margin", "next best", "settings"]]
    for row in rows:
        table.append(
            [
                row.method,
                row.chosen,
                plus_minus(row.score),
                plus_minus(row.margin, signed=True),
                row.runner_up or NONE,
                row.settings,
            ]
        )
    yield [
        *wrapped(choices_title(results)),
        *aligned(table),
        *(line for text in choice_notes(results) for line in wrapped(text)),
    ]


def _row(choice: Choice) -> ChoiceRow:
    chosen, margin = choice.tried[choice.chosen], choice.margin
    n = len(choice.seeds)
    total = 1
    for options in choice.searched.values():
        total *= len(options)
    runner_up = choice.tried[choice.runner_up].values if choice.runner_up else None
    tried = len(choice.tried)
    return ChoiceRow(
        method=choice.method,
        chosen=_text(chosen.values),
        score=Estimate(chosen.mean, chosen.std, n),
        runner_up=_text(runner_up) if runner_up else None,
        margin=Estimate(margin.mean, margin.std, n) if margin else None,
        settings=str(tried) if tried == total else f"{tried} of {total:,}",
    )


def _is_unsure(choice: Choice) -> bool:
    """Return whether the tuning seeds cannot tell the chosen setting from the next best."""
    margin = choice.margin
    return margin is not None and (margin.std is None or margin.mean <= margin.std)


def _warnings(choice: Choice) -> Iterator[str]:
    names = _names(choice.searched)
    for path, extreme in choice.at_edges():
        options = ", ".join(map(value_text, choice.searched[path]))
        yield (
            f"Warning: {choice.method}'s {names[path]} is the {extreme} value tried ({options}); a "
            "better one may lie beyond."
        )
    failed = choice.without_score
    if failed:
        first = next(iter(failed))
        yield (
            f"Warning: {count(len(failed), 'setting')} of {choice.method} failed, for example "
            f"{_text(choice.tried[first].values)}: {failed[first]}"
        )


def _text(values: Mapping[str, Any]) -> str:
    names = _names(values)
    return ", ".join(f"{names[path]} {value_text(value)}" for path, value in values.items())


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Return the last name of each path, or the whole path if several end alike."""
    last = {path: parameter_name(path) for path in paths}
    counts = Counter(last.values())
    return {path: name if counts[name] == 1 else path for path, name in last.items()}
