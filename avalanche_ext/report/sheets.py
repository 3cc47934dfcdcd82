"""What a table shows, whatever the form: its rows, columns and notes; of one experiment or more."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile

from avalanche_ext.report.absent import absent_sections
from avalanche_ext.report.columns import (
    Column,
    columns_of,
    metric_column,
    metric_title,
    notes_of,
)
from avalanche_ext.report.comparisons import interval_text
from avalanche_ext.report.layout import NONE, count, number, p_value, plus_minus
from avalanche_ext.report.published import published_numbers
from avalanche_ext.report.ranking import Ranking, duels, ranking
from avalanche_ext.report.statistics import TESTED, MethodStatistics
from avalanche_ext.results.experiment import ExperimentResults

Reported = tuple[ExperimentResults, Sequence[MethodStatistics]]
"""An experiment with its `method_statistics`."""


@dataclass(frozen=True)
class Sheet:
    """A table of methods.

    Attributes:
        name: A name for references, of letters, digits and "_-.".
        title: What the table shows, one line.
        methods: The methods, one a row.
        columns: The columns beside their names.
        notes: Sentences below the table.
        absent: Lines on runs that the table lacks.
    """

    name: str
    title: str
    methods: Sequence[str]
    columns: Sequence[Column]
    notes: Sequence[str]
    absent: Sequence[str]


def heading(results: ExperimentResults) -> str:
    """The first line of a report: the experiment, how far it is, and what was measured on."""
    finished = sum(len(method.cells) for method in results.methods)
    where = ", accuracies on held-out VALIDATION samples" if _is_held_out(results) else ""
    return (
        f"{results.name}: {count(len(results.methods), 'method')} x "
        f"{count(len(results.seeds), 'seed')}, {finished} of {results.n_cells} runs finished{where}"
    )


def _is_held_out(results: ExperimentResults) -> bool:
    return results.split == "validation"


def sheet_of(
    results: ExperimentResults, statistics: Sequence[MethodStatistics], has_costs: bool = True
) -> Sheet:
    """The table of one experiment, with a paper's numbers beside ours.

    Args:
        results: The experiment.
        statistics: `method_statistics` of the same results.
        has_costs: Whether seconds and memory are among the columns.

    Raises:
        ResultsError: If `published` names an unknown metric or method.
    """
    columns = columns_of(results, statistics, has_costs=has_costs)
    published = published_numbers(results)
    for metric, theirs in published.items():
        title = metric_title(metric)
        places = [place for place, column in enumerate(columns) if column.title == title]
        if not places:
            columns.append(metric_column(metric, results, statistics))
            places = [len(columns) - 1]
        cells = [plus_minus(theirs.get(row.name)) for row in statistics]
        columns.insert(places[0] + 1, Column(f"{title}, published", cells))
    notes = notes_of(results, statistics, columns)
    if published and results.published:
        notes.append(f"published: {results.published['reference']}.")
    return Sheet(
        name=results.name,
        title=heading(results),
        methods=[row.name for row in statistics],
        columns=columns,
        notes=notes,
        absent=[*chain.from_iterable(absent_sections(results))],
    )


def joint_sheets(experiments: Sequence[Reported]) -> list[Sheet]:
    """The tables of several experiments side by side: one for each of TESTED."""
    first, *others = [_joint_sheet(experiments, metric) for metric in TESTED]
    return [first, *(replace(sheet, absent=()) for sheet in others)]


def _joint_sheet(experiments: Sequence[Reported], metric: str) -> Sheet:
    all_results = [results for results, _ in experiments]
    names = [*dict.fromkeys(each.name for results in all_results for each in results.methods)]
    labels = _labels(all_results)
    columns = [
        _placed(names, label, each, metric) for label, each in zip(labels, experiments, strict=True)
    ]
    ranks = ranking(all_results, metric)
    notes = ["± is the sample standard deviation over seeds."]
    if ranks:
        texts = [number(ranks.ranks[name], 2) if name in ranks.ranks else NONE for name in names]
        columns.append(Column("mean rank", texts))
        notes += _on_ranks(ranks)
    baselines = [*dict.fromkeys(filter(None, (results.baseline for results in all_results)))]
    if len(baselines) > 1:
        notes.append(f"The baselines differ ({', '.join(baselines)}), so none is compared with.")
    for baseline in baselines[: len(baselines) == 1]:
        columns += _duels(names, all_results, baseline, metric)
        notes.append(
            f"vs {baseline}: the mean over experiments of the difference, paired by seed, with its "
            "95 % interval by the bootstrap over the seeds of each; wins: how often a method has "
            "the higher value with the same seed, with Jeffreys' 95 % interval."
        )
    return Sheet(
        name="-".join([*dict.fromkeys(results.name for results in all_results), metric]),
        title=f"{metric} in {count(len(all_results), 'experiment')}",
        methods=names,
        columns=columns,
        notes=notes,
        absent=[line for results in all_results for line in _absent(results)],
    )


def _labels(experiments: Sequence[ExperimentResults]) -> list[str]:
    """Names of experiments without the words that all begin with, or folders of equal names."""
    names = [results.name for results in experiments]
    if len({*names}) < len(names):
        labels = [str(results.folder) for results in experiments]
    else:
        words = [re.findall(r"[^_.-]*[_.-]?", name) for name in names]
        shared = takewhile(lambda each: len({*each}) == 1, zip(*words, strict=False))
        n_shared = sum(1 for _ in shared)
        labels = ["".join(each[n_shared:]) or "".join(each) for each in words]
    return [
        f"{label} (validation)" if _is_held_out(results) else label
        for label, results in zip(labels, experiments, strict=True)
    ]


def _placed(names: Sequence[str], label: str, experiment: Reported, metric: str) -> Column:
    """An experiment's column, with a row for each of the names."""
    results, statistics = experiment
    column = metric_column(metric, results, statistics)
    place = {row.name: index for index, row in enumerate(statistics)}
    return Column(
        label,
        [column.cells[place[name]] if name in place else "" for name in names],
        frozenset(
            row for row, name in enumerate(names) if name in place and place[name] in column.best
        ),
    )


def _on_ranks(ranks: Ranking) -> Iterator[str]:
    yield (
        f"mean rank: over the {ranks.experiments} experiments, 1 for the best, of methods that all "
        "of them have."
    )
    if ranks.friedman is not None and ranks.critical_difference is not None:
        p = p_value(ranks.friedman)
        yield (
            f"Friedman's test that all are alike: p {p if p.startswith('<') else f'= {p}'}; "
            f"Nemenyi's critical difference of mean ranks: {number(ranks.critical_difference, 2)}."
        )


def _duels(
    names: Sequence[str], experiments: Sequence[ExperimentResults], baseline: str, metric: str
) -> Iterator[Column]:
    found = duels(experiments, baseline, metric)
    differences, wins = [], []
    for name in names:
        duel = found.get(name)
        if not duel:
            differences.append("" if name == baseline else NONE)
            wins.append("" if name == baseline else NONE)
            continue
        interval = f" {interval_text(duel.interval)}" if duel.interval else ""
        differences.append(number(duel.difference.mean, signed=True) + interval)
        share = number(duel.win_probability, 2)
        wins.append(f"{share} {interval_text(duel.win_interval, decimals=2, signed=False)}")
    if {*differences} != {NONE}:
        yield Column(f"vs {baseline}", differences)
        yield Column("wins", wins)


def _absent(results: ExperimentResults) -> Iterator[str]:
    for lines in absent_sections(results):
        yield f"{results.name}: {lines[0]}"
        yield from lines[1:]
