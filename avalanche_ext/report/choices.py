"""Hyper-parameters chosen on validation samples: the margin, and the distance from list ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from avalanche_ext.report.estimates import Estimate
from avalanche_ext.report.layout import NONE, aligned, plus_minus, wrapped
from avalanche_ext.report.sheet import Column, Sheet
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.tune import Choice, parameter_name, value_text
from avalanche_ext.words import alternatives, count


def choice_columns(results: ExperimentResults) -> list[Column]:
    """Return the columns of a table of choices, one row per method; empty without a search."""
    choices = results.choices
    if not choices:
        return []
    chosen = [_text(each.tried[each.chosen].values) for each in choices]
    return [
        Column("method", [each.method for each in choices], is_number=False),
        Column("chosen", chosen, is_number=False),
        Column(choices[0].metric, [plus_minus(_score(each)) for each in choices]),
        Column(
            "margin",
            [plus_minus(_margin(each), signed=True) for each in choices],
            note="advantage over the next best setting, paired by tuning seed",
        ),
        Column("next best", [*map(_next_best, choices)], is_number=False),
        Column("settings", [*map(_n_settings, choices)], note="number of settings tried"),
    ]


def choices_sheets(results: ExperimentResults) -> Iterator[Sheet]:
    """Yield the table of choices, if anything was searched."""
    if results.choices:
        methods, *columns = choice_columns(results)
        title = choices_title(results)
        yield Sheet(
            name=f"{results.name}-choices",
            title=title,
            caption=f"{results.name}. {title}",
            methods=methods.cells,
            columns=columns,
            notes=[f"{column.title}: {column.note}." for column in columns if column.note]
            + choice_notes(results),
            on_best="",
            absent=[],
        )


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
    columns = choice_columns(results)
    if not columns:
        return
    table = [[column.title, *column.cells] for column in columns]
    yield [
        *wrapped(choices_title(results)),
        *aligned([[*row] for row in zip(*table, strict=True)]),
        *(line for text in choice_notes(results) for line in wrapped(text)),
    ]


def _margin(choice: Choice) -> Estimate | None:
    """Return the advantage of the chosen setting over the next best, paired by tuning seed."""
    margin = choice.margin
    return Estimate(margin.mean, margin.std, len(choice.seeds)) if margin else None


def _score(choice: Choice) -> Estimate:
    chosen = choice.tried[choice.chosen]
    return Estimate(chosen.mean, chosen.std, len(choice.seeds))


def _next_best(choice: Choice) -> str:
    return _text(choice.tried[choice.runner_up].values) if choice.runner_up else NONE


def _n_settings(choice: Choice) -> str:
    tried, total = len(choice.tried), prod(map(len, choice.searched.values()))
    return str(tried) if tried == total else f"{tried} of {total:,}"


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
