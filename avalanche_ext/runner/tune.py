"""The search for hyper-parameters before an experiment: its rounds of cells, and the choice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.config.tune import Tuning, chosen, tuning_stage
from avalanche_ext.results.claims import claimed, look_again
from avalanche_ext.results.files import CLAIMS, one_line
from avalanche_ext.results.tune import Choice, Tried, ranking, value_text
from avalanche_ext.runner import plan
from avalanche_ext.runner.plan import Selection, names_of, readable_results
from avalanche_ext.runner.progress import QUIET
from avalanche_ext.words import alternatives, count

if TYPE_CHECKING:
    from avalanche_ext.runner.grid import GridOutcome

    Run = Callable[[Experiment, Selection], GridOutcome]
    """Runs the selected cells of an experiment."""

_SECONDS_FOR_JOURNAL = 10.0


def run_tuned(
    experiment: Experiment, out: Path, selection: Selection, run: Run, verbosity: int
) -> GridOutcome:
    """Run the search of an experiment, choose settings, and run the experiment with them.

    All commands, including shards, share the runs of a search: whoever is free takes the next one,
    and waits for the runs of others. Sharding applies to the experiment after the search.

    Args:
        experiment: An experiment with undecided methods.
        out: Folder of all results.
        selection: Which cells to run.
        run: Runs cells of an experiment.
        verbosity: As for `run_experiment`.
    """
    tuning = experiment.tuning
    assert tuning is not None
    searched = _searched(experiment, selection)
    again = names_of(experiment, selection.rerun, "--rerun")
    outcomes: list[GridOutcome] = []
    ran: set[str] = set()
    while True:
        # Covers all methods, so that the report of the search keeps those not searched now.
        settings = {name: proposed(experiment, name, out) for name in experiment.undecided}
        new = [each for name in searched for each in settings[name] if each not in ran]
        if not new:
            break
        stage = tuning_stage(experiment, settings)
        if verbosity > QUIET and not ran:
            _say(_announcement(tuning, {name: settings[name] for name in searched}))
        rerun = [each for each in _repeated(settings, again, selection.shard) if each not in ran]
        outcomes.append(run(stage, Selection(methods=new, rerun=rerun, repeats_failures=False)))
        ran |= {*new}
        if tuning.sampler == "tpe":
            _write_journal(experiment, settings, out)
        left = [cell for cell in stage.cells() if cell.method_name in new and not _ended(cell, out)]
        if left:
            n_failed = sum(each.n_failed for each in outcomes)
            return _total(outcomes, n_failed, _waiting(experiment, left))
    choices = []
    n_failed = 0
    for name in experiment.undecided:
        tried = _tried_of(experiment, name, out)
        best = _best(tuning, name, tried)
        choices += [best] if best else []
        if name not in searched:
            continue
        for line in _notes(name, tried, best, tuning.seeds):
            _say(line)
        if best and verbosity > QUIET:
            _say(f"chosen for {name}: {_values(best.values)}")
        n_failed += _n_failed(experiment, tried, best, out, name)
    final = run(chosen(experiment, choices), selection)
    return _total([*outcomes, final], n_failed + final.n_failed)


def explain(experiment: Experiment, out: Path, selection: Selection) -> str:
    """Describe what a run would do, as `plan.explain` does, beginning with the search."""
    if not experiment.undecided:
        return plan.explain(experiment, out, selection)
    searched = _searched(experiment, selection)
    again = names_of(experiment, selection.rerun, "--rerun")
    settings = {name: proposed(experiment, name, out) for name in searched}
    texts = []
    if settings:
        stage = tuning_stage(experiment, settings)
        rerun = _repeated(settings, again, selection.shard)
        texts.append(plan.explain(stage, out, Selection(rerun=rerun, repeats_failures=False)))
    choices = [*filter(None, (choice(experiment, name, out) for name in experiment.undecided))]
    decided = chosen(experiment, choices)
    if {*settings} & {*decided.undecided}:
        texts.append(f"{experiment.name}: its cells wait for the search to end")
    else:
        texts.append(plan.explain(decided, out, selection))
    return "\n".join(texts)


def _searched(experiment: Experiment, selection: Selection) -> list[str]:
    """Return the methods that a command searches, in the YAML's order."""
    wanted = names_of(experiment, selection.methods, "--methods") or {*experiment.undecided}
    return [name for name in experiment.undecided if name in wanted]


def _repeated(
    settings: Mapping[str, Sequence[str]], methods: Collection[str], shard: tuple[int, int]
) -> list[str]:
    """Return the settings that a command reruns; with shards, one of them reruns each setting."""
    index, n = shard
    names = [each for method, names in settings.items() if method in methods for each in names]
    return names[index - 1 :: n]


def proposed(experiment: Experiment, method: str, out: Path) -> list[str]:
    """Return the settings of a method to try, according to the results so far."""
    tuning = experiment.tuning
    assert tuning is not None
    search = tuning.searches[method]
    if tuning.sampler != "tpe":
        return [*search.settings]
    from avalanche_ext.runner.tpe import propose

    stage = tuning_stage(experiment, {method: [*search.settings]})
    return propose(search, tuning, method, lambda names: _tried(stage, names, tuning, out))


def choice(experiment: Experiment, method: str, out: Path) -> Choice | None:
    """Return the best setting of a method; None before all have ended, or if all have failed."""
    assert experiment.tuning is not None
    return _best(experiment.tuning, method, _tried_of(experiment, method, out))


def _best(tuning: Tuning, method: str, tried: Mapping[str, Tried]) -> Choice | None:
    seeds = [*tuning.seeds]
    if not all(each.has_ended(seeds) for each in tried.values()):
        return None
    best = ranking(tried, seeds, tuning.metric)
    if not best:
        return None
    return Choice(
        method=method,
        metric=tuning.metric,
        experiences=tuning.validation.experiences,
        validation_per_experience=tuning.validation.per_experience,
        sampler=tuning.sampler,
        seeds=seeds,
        searched={path: [*values] for path, values in tuning.searches[method].options.items()},
        tried=tried,
        chosen=best[0],
        bounds=tuning.searches[method].bounds,
    )


def _tried_of(experiment: Experiment, method: str, out: Path) -> dict[str, Tried]:
    """Read the scores of a method's settings that are to be tried."""
    assert experiment.tuning is not None
    names = proposed(experiment, method, out)
    stage = tuning_stage(experiment, {method: names})
    return _tried(stage, names, experiment.tuning, out)


def _tried(
    stage: Experiment, names: Collection[str], tuning: Tuning, out: Path
) -> dict[str, Tried]:
    """Read the scores of settings; unfinished ones have fewer scores than seeds."""
    values = {
        name: setting.values
        for search in tuning.searches.values()
        for name, setting in search.settings.items()
    }
    tried = {name: Tried(values[name], {}, {}) for name in names}
    for cell in stage.cells():
        if cell.method_name in tried:
            score = _score(cell, out, tuning.metric)
            each = tried[cell.method_name]
            if isinstance(score, str):
                tried[cell.method_name] = replace(
                    each, failures={**each.failures, cell.seed: score}
                )
            elif score is not None:
                tried[cell.method_name] = replace(each, scores={**each.scores, cell.seed: score})
    return tried


def _score(cell: Cell, out: Path, metric: str) -> float | str | None:
    """Return a cell's metric, the reason why it has none, or None if it has not finished.

    A result that another command, with other values in the YAML, has set aside counts too.
    """
    files = cell.files(out)
    with readable_results():
        result = files.result()
    if result is None:
        return files.failure() if files.has_failed() else None
    value = result.metrics[metric]
    return f"{metric} is undefined" if value is None else value


def _write_journal(
    experiment: Experiment, settings: Mapping[str, Sequence[str]], out: Path
) -> None:
    from avalanche_ext.runner.tpe import JOURNAL, write_journal

    assert experiment.tuning is not None
    stage = tuning_stage(experiment, settings)
    folder = out / stage.name
    try:
        with claimed(folder / CLAIMS / "journal.lock", _SECONDS_FOR_JOURNAL):
            for method, names in settings.items():
                tried = _tried(stage, names, experiment.tuning, out)
                write_journal(experiment, method, tried, folder)
    # No run reads the journal, so a damaged one must not stop any.
    except Exception as error:
        _say(f"note: {folder / JOURNAL} is not updated: {one_line(error)}")


def _ended(cell: Cell, out: Path) -> bool:
    """Return whether a cell has a result or has failed, as far as visible here."""
    files = cell.files(out)
    try:
        if not (files.has_result() or files.has_failed()):
            look_again(files.folder)
        return files.has_result() or files.has_failed()
    except OSError:  # It cannot be read now.
        return False


def _n_failed(
    experiment: Experiment, tried: Mapping[str, Tried], best: Choice | None, out: Path, method: str
) -> int:
    """Return how many failed runs of a method's search may succeed in another attempt.

    Settings that cannot be trained do not count, unless nothing is left to choose.
    """
    return sum(
        cell.seed in tried[cell.method_name].failures
        and (best is None or not cell.files(out).is_hopeless())
        for cell in tuning_stage(experiment, {method: [*tried]}).cells()
    )


def _notes(
    method: str, tried: Mapping[str, Tried], best: Choice | None, seeds: Sequence[int]
) -> Iterator[str]:
    """Yield notes on settings that could not be trained, and the consequences."""
    failed = {name: each for name, each in tried.items() if each.failures}
    if not best and not all(each.has_ended(seeds) for each in tried.values()):
        yield f"note: the search for {method} has not finished, so {method} does not run yet"
    if not failed:
        return
    first, *_ = failed.values()
    why = f"for example {_values(first.values)}: {next(iter(first.failures.values()))}"
    again = f"--rerun {method} tries them again"
    if best:
        counts = "counts" if len(failed) == 1 else "count"
        yield (
            f"note: {count(len(failed), 'setting')} of {method} failed and {counts} as the "
            f"worst, {why} ({again})"
        )
    elif len(failed) == len(tried):
        yield (f"note: {method} does not run, because all its settings failed, {why} ({again})")


def _total(outcomes: Sequence[GridOutcome], n_failed: int, waiting: str = "") -> GridOutcome:
    """Return the last outcome with the counts of all, except for failed runs."""
    counts = ("n_done_before", "n_completed", "n_elsewhere", "n_unseen")
    sums = {key: sum(getattr(each, key) for each in outcomes) for key in counts}
    return replace(outcomes[-1], **sums, n_failed=n_failed, waiting=waiting)


def _announcement(tuning: Tuning, settings: Mapping[str, Sequence[str]]) -> str:
    held_out = tuning.validation
    n = sum(map(len, settings.values()))
    return (
        f"searching {alternatives([*settings], 'and')}: {count(n, 'setting')} x "
        f"{count(len(tuning.seeds), 'seed')}, learning {count(held_out.experiences, 'experience')} "
        f"with {count(held_out.per_experience, 'sample')} of each held out for validation"
    )


def _waiting(experiment: Experiment, left: Sequence[Cell]) -> str:
    have, run = ("has", "run") if len(left) == 1 else ("have", "runs")
    return (
        f"{experiment.name} does not run yet: {len(left):,} {run} of its search {have} no "
        "visible result; run this command again"
    )


def _values(values: Mapping[str, object]) -> str:
    return ", ".join(f"{path} {value_text(value)}" for path, value in values.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
