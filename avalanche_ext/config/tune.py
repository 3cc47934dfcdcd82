"""The section `tune`: a search for hyper-parameters on validation samples, before the experiment.

A search is a separate experiment, `<name>-tuning`, whose methods are the settings of the searched
methods. `tuning_stage` returns it, and `chosen` returns the experiment with the chosen settings.
"""

from __future__ import annotations

import importlib.util
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Annotated, Any, Literal

from annotated_types import Le
from pydantic import AfterValidator, Field

from avalanche_ext.config.annotations import Text
from avalanche_ext.config.errors import ConfigError, Problem, at, lies_at
from avalanche_ext.config.methods import Shared, resolve_method
from avalanche_ext.config.schema import Component, Experiment, Method
from avalanche_ext.config.sections import (
    LONGEST_NAME,
    MOST_METHODS,
    PositiveInteger,
    Section,
    Seeds,
    Validation,
    Values,
)
from avalanche_ext.config.sweep import Varied, reported, target, value_name, with_shared, with_value
from avalanche_ext.config.validation import rejection
from avalanche_ext.results.record import Sweep
from avalanche_ext.results.tune import (
    EXTREMES,
    HIGHER_IS_BETTER,
    OF_SEVERAL,
    OF_THE_END,
    Choice,
    are_numbers,
    parameter_name,
)
from avalanche_ext.words import did_you_mean, shown, suggestion

FIRST_SEED = 10_000
"""The first tuning seed if `tune.seeds` is a number; `seeds: N` ends below it."""

SUFFIX = "-tuning"
"""The suffix of the name of an experiment's search."""

_UNCLEAR = "is relative to the best of the compared methods, so it cannot rank settings"


def _metric(metric: str) -> str:
    if metric == "intransigence":
        raise rejection(f"is 'intransigence', which {_UNCLEAR}: use learning_accuracy")
    if metric not in HIGHER_IS_BETTER:
        known = [*HIGHER_IS_BETTER]
        advice = suggestion(metric, known)
        hint = f" ({advice})" if advice else ""
        raise rejection(f"is {shown(metric)}, but must be one of {', '.join(known)}{hint}")
    return metric


class TuneSection(Section):
    """How hyper-parameters are searched before the experiment runs.

    Attributes:
        experiences: Number of experiences that settings are trained on, the first ones.
        validation_per_experience: Number of training samples of each to hold out and evaluate.
        seeds: The seeds of the search, none of which the experiment may have: their number, or a
            list.
        metric: What a setting is chosen by.
        search: For each method, the values to try for each path below it.
        sampler: "grid" tries every setting; "random" and "tpe" (Optuna's) try `trials` of them.
        trials: Number of settings to try for each method, at most all of them.
    """

    experiences: PositiveInteger
    validation_per_experience: PositiveInteger
    seeds: Seeds
    metric: Annotated[
        Text,
        AfterValidator(_metric),
        Field(json_schema_extra={"enum": [*HIGHER_IS_BETTER]}),
    ] = "ACC"
    search: Annotated[
        dict[Text, Annotated[dict[Text, Values], Field(min_length=1)]], Field(min_length=1)
    ]
    sampler: Literal["grid", "random", "tpe"] = "grid"
    trials: Annotated[PositiveInteger, Le(MOST_METHODS)] | None = None

    @property
    def validation(self) -> Validation:
        """The samples that settings are trained and evaluated on."""
        return Validation(
            experiences=self.experiences, per_experience=self.validation_per_experience
        )

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds of the search."""
        if isinstance(self.seeds, int):
            return tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))
        return tuple(self.seeds)


@dataclass(frozen=True)
class Setting:
    """A method with one value for each of its searched parameters.

    Attributes:
        values: The values by path.
        method: The method, as it runs if the setting is chosen.
        tuned: The same without the section `analyses`, which the search does not need.
        section: The method's section with the values.
    """

    values: Mapping[str, Any]
    method: Method
    tuned: Method
    section: Mapping[str, Any]


@dataclass(frozen=True)
class Search:
    """The search of one method.

    Attributes:
        options: The values that each path may take.
        bounds: By path, the ends of its numbers that are limits of the valid range: "smallest",
            "largest".
        settings: The settings by the name of their folder; with "random" only the drawn ones.
    """

    options: Mapping[str, Sequence[Any]]
    bounds: Mapping[str, Sequence[str]]
    settings: Mapping[str, Setting]


@dataclass(frozen=True)
class Tuning:
    """The searches of an experiment.

    Attributes:
        validation: The samples that settings are trained and evaluated on.
        seeds: The seeds of the searches.
        metric: What a setting is chosen by.
        sampler: "grid", "random" or "tpe".
        trials: Number of settings of each method to try; None for all.
        searches: By method, in the YAML's order.
    """

    validation: Validation
    seeds: tuple[int, ...]
    metric: str
    sampler: str
    trials: int | None
    searches: Mapping[str, Search]

    @property
    def n_settings(self) -> int:
        """The number of settings that are tried."""
        sizes = [len(search.settings) for search in self.searches.values()]
        return sum(min(size, self.trials or size) for size in sizes)


def tuning_stage(experiment: Experiment, settings: Mapping[str, Sequence[str]]) -> Experiment:
    """Return the experiment that tries settings on validation samples.

    Args:
        experiment: An experiment with a search.
        settings: Names of the settings, by method.
    """
    tuning = experiment.tuning
    assert tuning is not None
    methods = {
        name: tuning.searches[method].settings[name].tuned
        for method, names in settings.items()
        for name in names
    }
    sweeps = {
        method: _as_sweep(tuning.searches[method], names) for method, names in settings.items()
    }
    return replace(
        experiment,
        name=f"{experiment.name}{SUFFIX}",
        seeds=tuning.seeds,
        methods=methods,
        sweeps=sweeps,
        baseline=None,
        claims=(),
        published=None,
        validation=tuning.validation,
        evaluate=None,
        tuning=None,
        undecided=(),
        document=_stage_document(experiment, tuning, settings),
    )


def _stage_document(
    experiment: Experiment, tuning: Tuning, settings: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the document of a YAML that tries the settings, each as a method."""
    left_out = ("tune", "claims", "published", "analyses", "evaluate")
    document = {key: value for key, value in experiment.document.items() if key not in left_out}
    return document | {
        "name": f"{experiment.name}{SUFFIX}",
        "seeds": [*tuning.seeds],
        "baseline": None,
        "validation": tuning.validation.model_dump(),
        "methods": {
            name: tuning.searches[method].settings[name].section
            for method, names in settings.items()
            for name in names
        },
    }


def _as_sweep(search: Search, names: Sequence[str]) -> Sweep:
    """Return the settings as a sweep over the values of all paths."""
    parameter = ", ".join(map(parameter_name, search.options))
    values = {name: search.settings[name].values.values() for name in names}
    if len(search.options) == 1:
        return Sweep(parameter, {name: next(iter(each)) for name, each in values.items()})
    return Sweep(
        parameter, {name: ", ".join(map(value_name, each)) for name, each in values.items()}
    )


def chosen(experiment: Experiment, choices: Sequence[Choice]) -> Experiment:
    """Return the experiment with the chosen settings of some methods."""
    tuning = experiment.tuning
    assert tuning is not None
    methods = {
        each.method: tuning.searches[each.method].settings[each.chosen].method for each in choices
    }
    return replace(
        experiment,
        methods={name: methods.get(name, method) for name, method in experiment.methods.items()},
        undecided=tuple(name for name in experiment.undecided if name not in methods),
        choices=(*experiment.choices, *choices),
    )


def check_tune(
    section: TuneSection,
    name: str,
    sections: Mapping[str, Any],
    seeds: Sequence[int],
    swept: Sequence[str],
) -> Iterator[Problem]:
    """Check a section `tune` against the experiment.

    Args:
        section: The section.
        name: The experiment's name.
        sections: The experiment's methods, as in the YAML.
        seeds: The experiment's seeds.
        swept: Names of the methods that have a sweep.
    """
    if len(name) > LONGEST_NAME - len(SUFFIX):
        wrong = f"has {len(name)} characters, but with 'tune' at most {LONGEST_NAME - len(SUFFIX)}"
        yield Problem("name", f"{wrong}: the search adds '{SUFFIX}'")
    both = sorted({*seeds} & {*section.seed_list})
    if both:
        yield Problem(
            "tune.seeds",
            f"has {', '.join(map(str, both[:5]))}, which the experiment has too: tune with other "
            "seeds",
        )
    if section.sampler == "grid" and section.trials is not None:
        yield Problem(
            "tune.trials",
            f"is {section.trials}, but the sampler 'grid' tries every setting: leave it out, or "
            "use the sampler random or tpe",
        )
    if section.sampler != "grid" and section.trials is None:
        wrong = f"missing, but the sampler '{section.sampler}' needs it (how many settings to try)"
        yield Problem("tune.trials", wrong)
    if section.sampler == "tpe" and importlib.util.find_spec("optuna") is None:
        wrong = "is 'tpe', but Optuna is not installed: pip install 'avalanche-ext[tune]'"
        yield Problem("tune.sampler", wrong)
    if section.metric in OF_SEVERAL and section.experiences == 1:
        yield Problem(
            "tune.metric",
            f"is '{section.metric}', but tune.experiences is 1, and it needs at least 2",
        )
    for name in section.search:
        path = at("tune.search", name)
        if name not in sections:
            yield Problem(path, f"unknown method '{name}'{did_you_mean(name, [*sections])}")
        elif name in swept:
            yield Problem(path, f"'{name}' has a sweep: leave out the sweep or the search")


def check_validation(validation: Validation, benchmark: Component, path: str) -> Iterator[Problem]:
    """Check that a benchmark has enough experiences and samples for validation.

    Args:
        validation: What is evaluated.
        benchmark: What is learned.
        path: The section that says it, `tune` or `validation`.
    """
    args = benchmark.args
    data_sets = args.get("datasets")
    n = len(data_sets) if isinstance(data_sets, list) else args.get("n_experiences")
    if isinstance(n, int) and validation.experiences > n:
        wrong = f"is {validation.experiences}, but '{benchmark.name}' has {n} experiences"
        yield Problem(at(path, "experiences"), wrong)
    size = args.get("train_size")
    is_ours = benchmark.target.startswith("avalanche_ext.")
    if is_ours and isinstance(size, int) and validation.per_experience >= size:
        key = "validation_per_experience" if path == "tune" else "per_experience"
        yield Problem(
            at(path, key),
            f"is {validation.per_experience}, but must be below benchmark.train_size, which is "
            f"{size}: the rest is trained on",
        )
    if is_ours and args.get("validation_size") is not None:
        yield Problem(
            "benchmark.validation_size",
            f"is {args['validation_size']}, but '{path}' holds out samples itself: leave it out",
        )


def resolve_search(
    name: str, section: Any, shared: Shared, tune: TuneSection, taken: set[str]
) -> tuple[Search | None, list[Problem]]:
    """Build the settings of one method's search.

    Args:
        name: The method's name.
        section: Its section, without a sweep.
        shared: What all methods share.
        tune: The section `tune`, which searches this method.
        taken: Names of settings of other methods, in lower case; this method's are added.

    Returns:
        The search, or None if it has problems, and all its problems.
    """
    where = at("tune.search", name)
    try:
        return _resolved(name, section, shared, tune, taken)
    except ConfigError as error:  # The paths conflict.
        return None, [Problem(where, problem.message) for problem in error.problems]


def _resolved(
    name: str, section: Any, shared: Shared, tune: TuneSection, taken: set[str]
) -> tuple[Search | None, list[Problem]]:
    options = tune.search[name]
    path, where = at("methods", name), at("tune.search", name)
    base: dict[str, Any] = {} if section is None else section
    if not isinstance(base, Mapping):
        return None, resolve_method(section, path, shared)[1]
    for key in options:
        base = with_shared(base, key, shared)
    first = {key: values[0] for key, values in options.items()}
    lost = [problem for key in options for problem in _lost(base, name, key, first[key], where)]
    if lost:
        return None, lost
    problems = [*_problems_by_path(base, name, options, shared)]
    n = math.prod(map(len, options.values()))
    if tune.sampler != "random" and n > MOST_METHODS:
        wrong = (
            f"has {n:,} settings, but at most {MOST_METHODS:,} can be searched: shorten the lists, "
            "or use the sampler random"
        )
        problems.append(Problem(where, wrong))
    if problems:
        return None, problems
    settings: dict[str, Setting] = {}
    for values in _proposed(options, tune, name):
        setting = dict(zip(options, values, strict=True))
        folder = _folder(name, values)
        is_taken = folder.lower() in taken
        taken.add(folder.lower())
        varied = _with_values(base, name, setting)
        method, found = resolve_method(varied, path, shared)
        when = " and ".join(f"{key} is {shown(value)}" for key, value in setting.items())
        problems += [Problem(p.path, f"{p.message} (when {when})") for p in found]
        problems += _check_metric(method, tune.metric, name)
        if is_taken or len(folder) > LONGEST_NAME:
            wrong = "is another's too" if is_taken else f"has more than {LONGEST_NAME} characters"
            problems.append(Problem(where, f"the name '{folder}' of a setting's folder {wrong}"))
        if method is None or problems:
            break
        kept = method.plugins[: len(method.plugins) - len(shared.analyses)]
        settings[folder] = Setting(setting, method, replace(method, plugins=kept), varied)
    # A method is None if a section shared by all methods has problems.
    if problems or not settings:
        return None, problems
    return Search(options, _bounds(base, name, options, shared), settings), []


def _lost(
    base: Mapping[str, Any], name: str, key: str, value: Any, where: str
) -> Iterator[Problem]:
    """Yield the problem with a path that does not fit the method's section."""
    try:
        with_value(base, name, key, value)
    except ConfigError as error:
        yield from (Problem(at(where, key), problem.message) for problem in error.problems)


def _with_values(base: Mapping[str, Any], name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    section = {**base}
    for key, value in values.items():
        section = with_value(section, name, key, value)
    return section


def _problems_by_path(
    base: Mapping[str, Any], name: str, options: Mapping[str, list[Any]], shared: Shared
) -> Iterator[Problem]:
    """Yield the problems with each value of each path, while others have their first values."""
    path = at("methods", name)
    targets = {key: target(base, name, key) for key in options}
    first = {key: values[0] for key, values in options.items()}
    found: dict[Problem, None] = {}
    for key, values in options.items():
        others = {other: value for other, value in first.items() if other != key}

        def problems_with(given: Mapping[str, Any]) -> list[Problem]:
            return resolve_method(_with_values(base, name, given), path, shared)[1]

        without = problems_with(others)
        each = [problems_with({**others, key: value}) for value in values]
        varied = Varied(key, [*values], targets[key], at(at("tune.search", name), key))
        of_others = [targets[other] for other in others]
        found |= dict.fromkeys(
            problem
            for problem in reported(each, without, varied)
            if not any(lies_at(problem.path, start) for start in of_others)
        )
    yield from found


def _bounds(
    base: Mapping[str, Any], name: str, options: Mapping[str, list[Any]], shared: Shared
) -> dict[str, list[str]]:
    """Return which ends of each path's numbers are limits of its valid range, such as 0."""
    first = {key: values[0] for key, values in options.items()}
    path = at("methods", name)

    def is_refused(key: str, value: float) -> bool:
        return bool(
            resolve_method(_with_values(base, name, {**first, key: value}), path, shared)[1]
        )

    return {
        key: [
            extreme
            for extreme, beyond in zip(EXTREMES, _beyond(values), strict=True)
            if is_refused(key, beyond)
        ]
        for key, values in options.items()
        if are_numbers(values)
    }


def _beyond(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the next number below all, and the next above."""
    low, high = min(numbers), max(numbers)
    if all(isinstance(number, int) for number in numbers):
        return low - 1, high + 1
    return math.nextafter(low, -math.inf), math.nextafter(high, math.inf)


def _check_metric(method: Method | None, metric: str, name: str) -> Iterator[Problem]:
    """Check that the metric is defined for a method trained on all experiences at once."""
    if method and method.at_once and metric not in OF_THE_END:
        wrong = f"is '{metric}', but {name} has only {' and '.join(OF_THE_END)}: {method.at_once}"
        yield Problem("tune.metric", wrong)


def _proposed(
    options: Mapping[str, Sequence[Any]], tune: TuneSection, name: str
) -> Iterator[tuple[Any, ...]]:
    """Yield the settings that may be tried: for "random", drawn by the first tuning seed."""
    if tune.sampler != "random":
        return product(*options.values())
    return islice(_drawn(options, f"{tune.seed_list[0]} {name}"), tune.trials)


def _drawn(options: Mapping[str, Sequence[Any]], seed: str) -> Iterator[tuple[Any, ...]]:
    """Yield all settings once in random order; a longer search starts like a shorter one."""
    generator = random.Random(seed)
    lengths = [len(values) for values in options.values()]
    seen: set[tuple[int, ...]] = set()
    while len(seen) < math.prod(lengths):
        places = tuple(generator.randrange(length) for length in lengths)
        if places not in seen:
            seen.add(places)
            yield tuple(values[i] for values, i in zip(options.values(), places, strict=True))


def _folder(name: str, values: Sequence[Any]) -> str:
    """Return the name of a setting's folder.

    >>> _folder("drl", [0.1, [100, 100], "torchvision:resnet18"])
    'drl-0.1-100x100-torchvision_resnet18'
    """
    texts = (re.sub(r"[^A-Za-z0-9_.-]", "_", value_name(value)) for value in values)
    return "-".join((name, *texts))
