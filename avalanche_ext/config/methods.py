"""Resolves a method's section in the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import Kind, entries
from avalanche_ext.config.components import component, find_entry
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.recipe import check_recipe, resolve_changed, resolve_training
from avalanche_ext.config.recipe_checks import (
    check_feature_replay,
    check_greedy,
    check_look_ahead,
    check_momentum,
    check_packed,
)
from avalanche_ext.config.schema import Component, Method
from avalanche_ext.config.sections import DEFAULT_STRATEGY, MOST_PLUGINS, MethodSection
from avalanche_ext.config.semantics import (
    check_analyses,
    check_built_ins,
    check_method,
    check_model,
)
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.config.validation import elsewhere, of_type, validate
from avalanche_ext.words import shown


@dataclass(frozen=True)
class Shared:
    """The settings that all methods share, unless a method's own section overrides them.

    Attributes:
        model: The experiment's model, as in the YAML.
        optimizer: The experiment's optimizer, as in the YAML.
        training: The experiment's training section, as in the YAML.
        benchmark: The benchmark of all methods; None if the section has problems.
        analyses: The plugins that the section `analyses` adds to every method, after its own.
    """

    model: Any
    optimizer: Any
    training: Any
    benchmark: Component | None
    analyses: tuple[Component, ...] = ()


def resolve_method(section: Any, path: str, shared: Shared) -> tuple[Method | None, list[Problem]]:
    """Check a method's section and build the method.

    Args:
        section: The section in the YAML.
        path: The section's path.
        shared: The settings of all methods. Problems with shared sections are not repeated.

    Returns:
        The method, or None if it cannot be built, and all its problems.
    """
    section = {} if section is None else section
    _, problems = validate(MethodSection, section, path)
    if not isinstance(section, Mapping):
        key = path.rpartition(".")[2]
        if key in MethodSection.model_fields:
            wrong = f"'{key}' is where a method's name should be: indent it below its method"
            problems = [Problem(path, wrong)]
        elif isinstance(section, str | list):
            wrong = f"is {shown(section)}, but must be a mapping such as {{plugins: [drl]}}"
            problems = [Problem(path, wrong)]
        return None, problems
    name = of_type(str, section.get("strategy"), DEFAULT_STRATEGY)
    args = of_type(dict, section.get("args"), {})
    strategy, found = _part(
        "strategy", name, args, path=at(path, "args"), name_path=at(path, "strategy")
    )
    problems += found
    plugins: list[Component | None] = []
    for index, item in enumerate(of_type(list, section.get("plugins"), [])[:MOST_PLUGINS]):
        plugin, found = _plugin(item, at(at(path, "plugins"), index))
        plugins.append(plugin)
        problems += found
    problems = [*_homed(problems, section, path, strategy, plugins)]
    problems += check_method(strategy, plugins, path, shared.benchmark)
    model, sound, found = resolve_changed(
        "model", section.get("model"), at(path, "model"), shared.model
    )
    problems += found
    if section.get("model") is not None and sound and shared.benchmark:
        problems += check_model(sound, shared.benchmark, at(path, "model"))
    problems += check_built_ins(strategy, plugins, path, sound, shared.benchmark)
    problems += check_analyses(plugins, shared.analyses, path)
    plugins += shared.analyses
    optimizer, _, found = resolve_changed(
        "optimizer", section.get("optimizer"), at(path, "optimizer"), shared.optimizer
    )
    problems += found
    recipe, found = resolve_training(
        section.get("training"),
        at(path, "training"),
        shared.benchmark,
        shared.training or {},
        trained_once=name == "avalanche:JointTraining",
    )
    problems += found
    training = recipe.training
    problems += check_recipe(strategy, plugins, optimizer, recipe, path)
    problems += check_look_ahead(strategy, training, path, shared.benchmark)
    has_own = bool(of_type(dict, section.get("training"), {}).get("scheduler"))
    if has_own or section.get("optimizer") is not None:
        where = "training.scheduler" if has_own else "optimizer"
        problems += check_momentum(recipe.scheduler, optimizer, at(path, where))
    problems += check_packed(strategy, optimizer, training, path)
    problems += check_greedy(strategy, plugins, training, path)
    problems += check_feature_replay(strategy, path)
    if not (strategy and model and optimizer and training):
        return None, problems
    method = Method(
        strategy,
        tuple(filter(None, plugins)),
        model,
        optimizer,
        training,
        recipe.criterion,
        recipe.scheduler,
    )
    return method, problems


def _homed(
    problems: Sequence[Problem],
    section: Mapping[str, Any],
    path: str,
    strategy: Component | None,
    plugins: Sequence[Component | None],
) -> Iterator[Problem]:
    """Yield the problems, and say which strategy or plugin a misplaced key belongs to."""
    homes: dict[str, str] = {}
    for index, plugin in enumerate(plugins):
        if plugin:
            place = at(at("plugins", index), plugin.name)
            homes |= {name: at(place, name) for name in plugin.args} | {plugin.name: place}
    if strategy:
        names = (each.name for each in read_signature(strategy.target).parameters)
        homes |= {name: at("args", name) for name in names}
    known = {*MethodSection.model_fields, *MethodSection.elsewhere}
    lost = {at(path, key): key for key in section if key in homes and key not in known}
    for problem in problems:
        key = lost.get(problem.path)
        yield (
            problem
            if key is None
            else Problem(problem.path, f"unknown key '{key}'{elsewhere(key, homes)}")
        )


def _plugin(item: Any, path: str) -> tuple[Component | None, list[Problem]]:
    name: Any = item
    args: Any = {}
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, args),) = item.items()
        args = {} if args is None else args
    if not isinstance(name, str):
        return None, [Problem(path, _misshapen_plugin(item))]
    if not isinstance(args, Mapping):
        wrong = f"is {shown(args)}, but must be a mapping of arguments"
        return None, [Problem(at(path, name), wrong)]
    return _part("plugin", name, args, path=at(path, name), name_path=path)


def _part(
    kind: Kind, name: str, args: Mapping[str, Any], path: str, name_path: str
) -> tuple[Component | None, list[Problem]]:
    """Resolve a strategy or plugin, and refuse those of Avalanche's that cannot work."""
    entry, _ = find_entry(kind, name, name_path)
    state = built_in(entry.target) if entry else None
    if state and state.state == "refused":
        return None, [Problem(name_path, f"'{name}' cannot be used: it {state.remark}")]
    made, found = component(kind, name, args, path=path, name_path=name_path)
    for key, meaning in state.needs if state else ():
        if key not in args:
            found = [*found, Problem(at(path, key), f"missing, but '{name}' needs it ({meaning})")]
    return made, found


def _misshapen_plugin(item: Any) -> str:
    if not isinstance(item, Mapping) or not item:
        return f"is {shown(item)}, but must be a plugin's name, or its name and arguments"
    keys = ", ".join(f"'{key}'" for key in item)
    if "name" in item:
        return f"has the keys {keys}: write a plugin as its name followed by its arguments"
    if all(key in entries("plugin") for key in item):
        return f"has the keys {keys}: begin each plugin with its own '-'"
    return f"has the keys {keys}: indent a plugin's arguments below its name"
