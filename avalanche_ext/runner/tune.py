"""The search for hyper-parameters before an experiment: rounds of cells, the choice, the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avalanche_ext.config import Cell, Experiment
from avalanche_ext.config.tune import Tuning, chosen, tuning_stage
from avalanche_ext.results.cell import read_cell
from avalanche_ext.results.claims import claimed, is_claimed
from avalanche_ext.results.files import CLAIMS, cell_folder, one_line, printable
from avalanche_ext.results.tune import Choice, Tried, ranking
from avalanche_ext.runner import plan
from avalanche_ext.runner.plan import Selection, names_of
from avalanche_ext.runner.progress import QUIET

if TYPE_CHECKING:
    from avalanche_ext.runner.grid import GridOutcome

    Run = Callable[[Experiment, Selection], GridOutcome]
    """Runs those of an experiment's cells that a selection takes."""

_PATIENCE = 10.0
"""Seconds without a sign of other commands after which their cells are not waited for."""
_SECONDS_BETWEEN_LOOKS = 1.0


def run_tuned(
    experiment: Experiment, out: Path, selection: Selection, run: Run, verbosity: int
) -> GridOutcome:
    """Run the search of an experiment, choose, and run the experiment with what is chosen.

    A shard runs its part of the search. The rest waits until all runs of the search have ended; if
    no other command is running them, this one ends, and says what is missing.

    Args:
        experiment: An experiment with methods that are undecided.
        out: Folder of all results.
        selection: Which cells to run.
        run: Runs cells of an experiment.
        verbosity: As for `run_experiment`.
    """
    tuning = experiment.tuning
    assert tuning is not None
    wanted = names_of(experiment, selection.methods, "--methods") or {*experiment.undecided}
    again = names_of(experiment, selection.rerun, "--rerun")
    searched = [name for name in experiment.undecided if name in wanted]
    outcomes: list[GridOutcome] = []
    ran: set[str] = set()
    while True:
        settings = {name: proposed(experiment, name, out) for name in searched}
        new = [each for names in settings.values() for each in names if each not in ran]
        if not new:
            break
        stage = tuning_stage(experiment, settings)
        if verbosity > QUIET and not ran:
            _say(_announcement(tuning, settings))
        rerun = [each for name in again for each in settings.get(name, ()) if each not in ran]
        outcomes.append(run(stage, Selection(methods=new, rerun=rerun, shard=selection.shard)))
        ran |= {*new}
        left = _left([cell for cell in stage.cells() if cell.method_name in new], out)
        if tuning.sampler == "tpe":
            _write_journal(experiment, settings, out)
        if left:
            return _total(outcomes, waiting=_waiting(left, experiment))
    choices = [*filter(None, (choice(experiment, name, out) for name in experiment.undecided))]
    for each in choices:
        if verbosity > QUIET and each.method in wanted:
            _say(f"chosen for {each.method}: {_values(each.values)}")
    for name in {*searched} - {each.method for each in choices}:
        _say(f"note: no setting of {name} could be trained, so {name} does not run")
    final = chosen(experiment, choices)
    return _total([*outcomes, run(final, selection)])


def explain(experiment: Experiment, out: Path, selection: Selection) -> str:
    """Return what a run would do, as `plan.explain` does, of the search first."""
    if not experiment.undecided:
        return plan.explain(experiment, out, selection)
    wanted = names_of(experiment, selection.methods, "--methods") or {*experiment.undecided}
    again = names_of(experiment, selection.rerun, "--rerun")
    settings = {
        name: proposed(experiment, name, out) for name in experiment.undecided if name in wanted
    }
    texts = []
    if settings:
        stage = tuning_stage(experiment, settings)
        rerun = [each for name in again for each in settings.get(name, ())]
        texts.append(plan.explain(stage, out, Selection(rerun=rerun, shard=selection.shard)))
    choices = [*filter(None, (choice(experiment, name, out) for name in experiment.undecided))]
    decided = chosen(experiment, choices)
    if {*settings} & {*decided.undecided}:
        texts.append(f"{experiment.name}: its cells wait for the search to end")
    else:
        texts.append(plan.explain(decided, out, selection))
    return "\n".join(texts)


def proposed(experiment: Experiment, method: str, out: Path) -> list[str]:
    """Return the settings of a method that are to be tried, as far as results so far tell."""
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
    tuning = experiment.tuning
    assert tuning is not None
    names = proposed(experiment, method, out)
    stage = tuning_stage(experiment, {method: names})
    tried = _tried(stage, names, tuning, out)
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
    )


def _tried(
    stage: Experiment, names: Collection[str], tuning: Tuning, out: Path
) -> dict[str, Tried]:
    """Read what settings have reached; those that have not ended have fewer scores than seeds."""
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
    """Return a cell's metric, why it has none, or None if it has not ended."""
    try:
        folder = cell_folder(out / cell.experiment, cell.method_name, cell.seed)
        result = read_cell(folder, cell.hash)
    except (OSError, ValueError) as error:
        return f"unreadable result file: {printable(error)}"
    if result is None or isinstance(result, str):
        return result
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
        with claimed(folder / CLAIMS / "journal.lock", _PATIENCE):
            for method, names in settings.items():
                tried = _tried(stage, names, experiment.tuning, out)
                write_journal(experiment, method, tried, folder)
    # No run reads the journal, so that a damaged one must stop none.
    except Exception as error:
        _say(f"note: {folder / JOURNAL} stays as it is: {one_line(error)}")


def _left(cells: Sequence[Cell], out: Path) -> list[Cell]:
    """Wait while other commands run cells, and return those that nobody runs."""
    left = [*cells]
    seen = time.monotonic()
    while True:
        before = len(left)
        left = [cell for cell in left if not _has_ended(cell, out)]
        if not left:
            return []
        if len(left) < before or any(is_claimed(cell.files(out).claim) for cell in left):
            seen = time.monotonic()
        elif time.monotonic() - seen > _PATIENCE:
            return left
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _has_ended(cell: Cell, out: Path) -> bool:
    files = cell.files(out)
    try:
        return files.is_done() or files.has_failed()
    except OSError:  # It cannot be read at present.
        return False


def _total(outcomes: Sequence[GridOutcome], waiting: str = "") -> GridOutcome:
    """Return the last outcome with the counts of all."""
    counts = ("n_done_before", "n_completed", "n_failed", "n_elsewhere", "n_unseen")
    sums = {key: sum(getattr(each, key) for each in outcomes) for key in counts}
    return replace(outcomes[-1], **sums, waiting=waiting)


def _announcement(tuning: Tuning, settings: Mapping[str, Sequence[str]]) -> str:
    held_out = tuning.validation
    n = sum(map(len, settings.values()))
    n_learned = _count(held_out.experiences, "experience")
    return (
        f"searching {', '.join(settings)}: {_count(n, 'setting')} x "
        f"{_count(len(tuning.seeds), 'seed')}, learning {n_learned} with "
        f"{held_out.per_experience} samples of each held out for validation"
    )


def _waiting(left: Sequence[Cell], experiment: Experiment) -> str:
    return (
        f"{experiment.name} waits for {_count(len(left), 'run')} of its search: run the other "
        "shards, then this command again"
    )


def _values(values: Mapping[str, object]) -> str:
    return ", ".join(f"{path} {value}" for path, value in values.items())


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
