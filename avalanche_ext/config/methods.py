"""Resolves a method's section of the YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.builtins import built_in
from avalanche_ext.config.catalogue import Kind, entries
from avalanche_ext.config.components import component, find_entry, sound_part
from avalanche_ext.config.errors import Problem, at, lies_at
from avalanche_ext.config.schema import Component, Method
from avalanche_ext.config.sections import DEFAULT_STRATEGY, MOST_PLUGINS, MethodSection, Training
from avalanche_ext.config.semantics import (
    check_analyses,
    check_built_ins,
    check_greedy,
    check_method,
    check_optimizer,
    check_packed,
    check_training,
)
from avalanche_ext.config.validation import of_type, validate
from avalanche_ext.words import shown


@dataclass(frozen=True)
class Shared:
    """What all methods share, unless a method's own section says otherwise.

    Attributes:
        optimizer: The experiment's optimizer, as the YAML has it.
        training: The experiment's training section, as the YAML has it.
        benchmark: What every method learns; None if the section has problems.
        model: What learns; None if the section has problems.
        analyses: The plugins that the section `analyses` adds to every method, after its own.
    """

    optimizer: Any
    training: Any
    benchmark: Component | None
    model: Component | None = None
    analyses: tuple[Component, ...] = ()


def resolve_method(section: Any, path: str, shared: Shared) -> tuple[Method | None, list[Problem]]:
    """Check a method's section and build the method.

    Args:
        section: What the YAML has.
        path: Where it has it.
        shared: What all methods share. Problems of the shared sections are not repeated.

    Returns:
        The method, or None if it cannot be built, and all its problems.
    """
    section = {} if section is None else section
    _, problems = validate(MethodSection, section, path)
    if not isinstance(section, Mapping):
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
    problems += check_method(strategy, plugins, path, shared.benchmark)
    problems += check_built_ins(strategy, plugins, path, shared.model, shared.benchmark)
    problems += check_analyses(plugins, shared.analyses, path)
    plugins += shared.analyses
    optimizer, found = _optimizer(section.get("optimizer"), at(path, "optimizer"), shared)
    problems += found
    training, found = _training(section.get("training"), at(path, "training"), shared)
    problems += found
    problems += check_packed(strategy, optimizer, training, path)
    problems += check_greedy(strategy, plugins, training, path)
    if not (strategy and optimizer and training):
        return None, problems
    return Method(strategy, tuple(filter(None, plugins)), optimizer, training), problems


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
    """A strategy or plugin. What Avalanche's cannot do is refused, whatever its arguments."""
    entry, _ = find_entry(kind, name, name_path)
    state = built_in(entry.target) if entry else None
    if state and state.state == "refused":
        return None, [Problem(name_path, f"'{name}' cannot be used: it {state.remark}")]
    made, found = component(kind, name, args, path=path, name_path=name_path)
    for key, meaning in state.needs if state else ():
        if key not in args:
            found = [*found, Problem(at(path, key), f"missing, but '{name}' needs it ({meaning})")]
    return made, found


def _optimizer(section: Any, path: str, shared: Shared) -> tuple[Component | None, list[Problem]]:
    """The method's optimizer. It keeps the shared arguments unless it names another one."""
    common, own = _named(shared.optimizer), _named(section)
    same = own.get("name", common.get("name")) == common.get("name")
    merged = {**common, **own} if same else own
    if not isinstance(merged.get("name"), str):
        return None, []
    args = {key: value for key, value in merged.items() if key != "name"}
    made, found = component(
        "optimizer", merged["name"], args, path=path, name_path=at(path, "name")
    )
    sound = made or sound_part("optimizer", merged["name"], args, path, found)
    found += check_optimizer(sound, path) if sound else ()
    return made, found if not same else _concerning(found, path, own)


def _named(section: Any) -> dict[str, Any]:
    return {"name": section} if isinstance(section, str) else of_type(dict, section, {})


def _training(section: Any, path: str, shared: Shared) -> tuple[Training | None, list[Problem]]:
    own = of_type(dict, section, {})
    merged = {**of_type(dict, shared.training, {}), **own}
    made, found = validate(Training, merged, path)
    if shared.benchmark:
        found += check_training(merged.get("iid"), shared.benchmark, path)
    return made, _concerning(found, path, own)


def _concerning(problems: Iterable[Problem], path: str, keys: Iterable[str]) -> list[Problem]:
    """The problems under one of `keys`. The others were reported for the shared section."""
    starts = [at(path, key) for key in keys]
    return [
        problem for problem in problems if any(lies_at(problem.path, start) for start in starts)
    ]


def _misshapen_plugin(item: Any) -> str:
    if not isinstance(item, Mapping) or not item:
        return f"is {shown(item)}, but must be a plugin's name, or its name and arguments"
    keys = ", ".join(f"'{key}'" for key in item)
    if "name" in item:
        return f"has the keys {keys}: write a plugin as its name followed by its arguments"
    if all(key in entries("plugin") for key in item):
        return f"has the keys {keys}: begin each plugin with its own '-'"
    return f"has the keys {keys}: indent a plugin's arguments below its name"
