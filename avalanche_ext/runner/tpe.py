"""Optuna's tree-structured Parzen estimator (TPE) over the settings of a search."""

from __future__ import annotations

import hashlib
import random
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState, create_trial

from avalanche_ext.config import Experiment
from avalanche_ext.config.tune import Search, Tuning, tuning_stage
from avalanche_ext.results.tune import HIGHER_IS_BETTER, Tried, are_numbers

JOURNAL = "optuna.log"
"""Optuna's journal in the folder of a search, for its dashboard; runs do not read it."""

_FIRST_ROUND = 10
"""Number of settings drawn at random before the first proposal."""
_ROUND = 4
"""Number of settings in each further round, proposed together, independently of workers."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


def propose(
    search: Search,
    tuning: Tuning,
    method: str,
    tried: Callable[[Collection[str]], Mapping[str, Tried]],
) -> list[str]:
    """Return the settings that TPE tries, up to the first round that has not ended.

    The proposals depend only on the first tuning seed and the results. So all commands that see the
    same results propose the same settings, and nothing is lost if one is killed. A setting that is
    proposed again is replaced by a random one that has not been tried.

    A setting with a failed run counts as the worst.

    Args:
        search: The settings.
        tuning: The number of trials, the metric and the seeds.
        method: Name of the method.
        tried: Returns the scores of settings so far.
    """
    generator = random.Random(f"{tuning.seeds[0]} {method}")
    n = min(tuning.trials or len(search.settings), len(search.settings))
    names = dict(zip(_places(search), search.settings, strict=True))
    study = _in_memory(tuning, seed=generator.randrange(2**32))
    asked: list[str] = []
    while len(asked) < n:
        size = _ROUND if asked else min(_FIRST_ROUND, n)
        trials: dict[str, Trial] = {}
        while len(trials) < size and len(asked) + len(trials) < n:
            trial = study.ask(_distributions(search))
            name = names[tuple(trial.params[path] for path in search.options)]
            if name in asked or name in trials:
                study.tell(trial, state=TrialState.FAIL)
                left = [
                    places
                    for places, each in names.items()
                    if each not in asked and each not in trials
                ]
                study.enqueue_trial(dict(zip(search.options, generator.choice(left), strict=True)))
            else:
                trials[name] = trial
        asked += trials
        for name, reached in tried([*trials]).items():
            if not reached.has_ended(tuning.seeds):
                return asked
            study.tell(trials[name], _worst(tuning) if reached.failures else reached.mean)
    return asked


def write_journal(
    experiment: Experiment, method: str, tried: Mapping[str, Tried], folder: Path
) -> None:
    """Update Optuna's journal, which has each finished setting once.

    Args:
        experiment: The experiment with the search.
        method: Name of the method.
        tried: The scores of its settings.
        folder: The folder of the search, which the caller has claimed.
    """
    tuning = experiment.tuning
    assert tuning is not None
    search = tuning.searches[method]
    # Each configuration has its own study.
    stage = tuning_stage(experiment, {method: [*search.settings]})
    hashes = sorted(cell.hash for cell in stage.cells())
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()[:8]
    study_name = f"{method} by {tuning.metric} {digest}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    ended = {
        name: None if each.failures else each.mean
        for name, each in tried.items()
        if each.has_ended(tuning.seeds)
    }
    study = _stored(storage, study_name, tuning)
    known = {trial.user_attrs["setting"]: trial.value for trial in study.get_trials(deepcopy=False)}
    if any(known[name] != ended.get(name) for name in known):
        # A run was repeated, and finished trials cannot be changed.
        optuna.delete_study(study_name=study_name, storage=storage)
        study, known = _stored(storage, study_name, tuning), {}
    for name in [name for name in ended if name not in known]:
        each, value = tried[name], ended[name]
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE,
                value=value,
                params={path: str(value) for path, value in each.values.items()},
                distributions={
                    path: CategoricalDistribution([str(value) for value in options])
                    for path, options in search.options.items()
                },
                user_attrs={"setting": name, "split": "validation", "metric": tuning.metric},
            )
        )


def _stored(storage: JournalStorage, name: str, tuning: Tuning) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name=name, direction=_direction(tuning), load_if_exists=True
    )


def _in_memory(tuning: Tuning, seed: int) -> optuna.Study:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=_FIRST_ROUND, constant_liar=True
        )
    return optuna.create_study(sampler=sampler, direction=_direction(tuning))


def _direction(tuning: Tuning) -> StudyDirection:
    better = HIGHER_IS_BETTER[tuning.metric]
    return StudyDirection.MAXIMIZE if better else StudyDirection.MINIMIZE


def _worst(tuning: Tuning) -> float:
    """Return a value below all others: over all metrics, the lowest is -1 and the highest 1."""
    return -1.0 if HIGHER_IS_BETTER[tuning.metric] else 1.0


def _distributions(search: Search) -> dict[str, BaseDistribution]:
    """Indices into the lists of values: ordered for numbers, unordered for others."""
    return {
        path: IntDistribution(0, len(options) - 1)
        if are_numbers(options)
        else CategoricalDistribution(range(len(options)))
        for path, options in search.options.items()
    }


def _places(search: Search) -> list[tuple[int, ...]]:
    """Return each setting's indices into the lists of values; numbers are ordered."""
    orders = {
        path: sorted(options) if are_numbers(options) else [*options]
        for path, options in search.options.items()
    }
    return [
        tuple(orders[path].index(value) for path, value in setting.values.items())
        for setting in search.settings.values()
    ]
