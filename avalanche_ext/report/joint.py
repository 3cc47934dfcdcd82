"""The tables of several experiments side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from avalanche_ext.report.absent import absent_sections
from avalanche_ext.report.columns import metric_column
from avalanche_ext.report.comparisons import interval_text
from avalanche_ext.report.duels import duels
from avalanche_ext.report.layout import NONE, number, p_text
from avalanche_ext.report.notes import on_absent, on_best
from avalanche_ext.report.ranking import FEWEST_FOR_VERDICT, Ranking, on_left_out, ranking
from avalanche_ext.report.sheet import Column, Sheet
from avalanche_ext.report.sheets import Reported
from avalanche_ext.report.statistics import TESTED
from avalanche_ext.results.experiment import ExperimentResults
from avalanche_ext.results.files import VALIDATION
from avalanche_ext.words import count


def joint_sheets(experiments: Sequence[Reported]) -> list[Sheet]:
    """Return the tables of several experiments side by side: one for each of TESTED."""
    first, *others = [_joint_sheet(experiments, metric) for metric in TESTED]
    return [first, *(replace(sheet, absent=()) for sheet in others)]


def _joint_sheet(experiments: Sequence[Reported], metric: str) -> Sheet:
    all_results = [results for results, _ in experiments]
    names = _names(all_results)
    labels = _labels(all_results)
    columns = [
        _placed(names, label, each, metric) for label, each in zip(labels, experiments, strict=True)
    ]
    notes = [*on_absent(all_results), "± is the sample standard deviation over seeds."]
    if len({results.split for results in all_results}) > 1:
        notes.append(
            "No averages over these experiments: some were measured on the test stream, others on "
            "validation samples."
        )
    else:
        for more, texts in (_ranks(names, all_results, metric), _duels(names, all_results, metric)):
            columns += more
            notes += texts
    title = f"{metric} in {count(len(all_results), 'experiment')}"
    return Sheet(
        name="-".join([*dict.fromkeys(results.name for results in all_results), metric]),
        title=title,
        caption=title,
        methods=names,
        columns=columns,
        notes=notes,
        on_best=on_best(all_results, columns),
        absent=[line for results in all_results for line in _absent(results)],
    )


def _names(experiments: Sequence[ExperimentResults]) -> list[str]:
    """Return the methods with a finished run in any experiment; all if there is none."""
    all_names = dict.fromkeys(each.name for results in experiments for each in results.methods)
    finished = {each.name for results in experiments for each in results.finished}
    return [name for name in all_names if name in finished] or [*all_names]


def _labels(experiments: Sequence[ExperimentResults]) -> list[str]:
    """Return names of experiments without common first words, or folders if names are equal."""
    names = [results.name for results in experiments]
    if len({*names}) < len(names):
        labels = [str(results.folder) for results in experiments]
    else:
        words = [re.findall(r"[^_.-]*[_.-]?", name) for name in names]
        shared = takewhile(lambda each: len({*each}) == 1, zip(*words, strict=False))
        n_shared = sum(1 for _ in shared)
        labels = ["".join(each[n_shared:]) or "".join(each) for each in words]
    return [
        f"{label} (validation)" if results.split == VALIDATION else label
        for label, results in zip(labels, experiments, strict=True)
    ]


def _placed(names: Sequence[str], label: str, experiment: Reported, metric: str) -> Column:
    """Return an experiment's column, with a row for each of the names."""
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


def _ranks(
    names: Sequence[str], experiments: Sequence[ExperimentResults], metric: str
) -> tuple[list[Column], list[str]]:
    """Return the column of mean ranks and remarks on it, if there are ranks."""
    ranks = ranking(experiments, metric)
    if not ranks:
        return [], []
    texts = [number(ranks.ranks[name], 2) if name in ranks.ranks else NONE for name in names]
    return [Column("mean rank", texts)], [
        f"mean rank: among {len(ranks.ranks)} methods (1 is best), over the same seeds in each "
        f"experiment, averaged over the {ranks.experiments} experiments.",
        *filter(None, [on_left_out(ranks)]),
        *_verdict(ranks),
    ]


def _verdict(ranks: Ranking) -> Iterator[str]:
    if ranks.experiments < FEWEST_FOR_VERDICT:
        yield (
            f"Caution: fewer than {FEWEST_FOR_VERDICT} experiments are too few to test the ranks."
        )
    if ranks.has_verdict and ranks.critical_difference is not None:
        yield (
            f"Friedman's test that all methods are equal in {ranks.metric}: "
            f"{p_text(ranks.friedman)}. Nemenyi's critical difference of mean ranks, meaningful "
            "only if p < 0.05: "
            f"{number(ranks.critical_difference, 2)}."
        )


def _duels(
    names: Sequence[str], experiments: Sequence[ExperimentResults], metric: str
) -> tuple[list[Column], list[str]]:
    """Return the columns against the baseline and remarks on them, if there is a baseline."""
    baselines = [*dict.fromkeys(filter(None, (results.baseline for results in experiments)))]
    if len(baselines) > 1:
        return [], [
            f"No comparison with a baseline: the baselines differ ({', '.join(baselines)})."
        ]
    found = duels(experiments, baselines[0], metric) if baselines else {}
    if not found:
        return [], []
    (baseline,) = baselines
    differences: list[str] = []
    wins: list[str] = []
    n_pairs: list[str] = []
    for name in names:
        duel = found.get(name)
        if not duel:
            for cells in (differences, wins, n_pairs):
                cells.append("" if name == baseline else NONE)
            continue
        interval = f" {interval_text(duel.interval)}" if duel.interval else ""
        differences.append(number(duel.difference.mean, signed=True) + interval)
        share = number(duel.win_probability, 2)
        wins.append(f"{share} {interval_text(duel.win_interval, decimals=2, signed=False)}")
        n_pairs.append(f"{duel.n_pairs} in {duel.difference.n}")
    return [
        Column(f"vs {baseline}", differences),
        Column("wins", wins),
        Column("pairs", n_pairs),
    ], [
        f"vs {baseline}: difference paired by seed, averaged over the experiments that have both "
        "methods, with equal weights; 95 % bootstrap confidence interval over the seeds of each "
        "experiment, if each has at least five pairs. wins: share of all pairs in which the method "
        "has the higher value, with Jeffreys' 95 % interval. pairs: number of pairs and of "
        "experiments."
    ]


def _absent(results: ExperimentResults) -> Iterator[str]:
    for lines in absent_sections(results):
        yield f"{results.name}: {lines[0]}"
        yield from lines[1:]
