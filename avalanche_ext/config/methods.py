"""Resolves a method's section of the YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from avalanche_ext.config.catalogue import entries
from avalanche_ext.config.components import component
from avalanche_ext.config.errors import Problem, at, lies_at
from avalanche_ext.config.schema import Component, Method
from avalanche_ext.config.sections import DEFAULT_STRATEGY, MethodSection, Training
from avalanche_ext.config.semantics import (
    check_analyses,
    check_method,
    check_optimizer,
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
        analyses: The plugins that the section `analyses` adds to every method, after its own.
    """

    optimizer: Any
    training: Any
    benchmark: Component | None
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
    strategy, found = component(
        "strategy", name, args, path=at(path, "args"), name_path=at(path, "strategy")
    )
    problems += found
    plugins: list[Component | None] = []
    for index, item in enumerate(of_type(list, section.get("plugins"), [])):
        plugin, found = _plugin(item, at(at(path, "plugins"), index))
        plugins.append(plugin)
        problems += found
    problems += check_method(strategy, plugins, path, shared.benchmark)
    problems += check_analyses(plugins, shared.analyses, path)
    plugins += shared.analyses
    optimizer, found = _optimizer(section.get("optimizer"), at(path, "optimizer"), shared)
    problems += found
    training, found = _training(section.get("training"), at(path, "training"), shared)
    problems += found
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
    return component("plugin", name, args, path=at(path, name), name_path=path)


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
    if made:
        found = [*check_optimizer(made, path)]
    return made, found if not same else _concerning(found, path, own)


def _named(section: Any) -> dict[str, Any]:
    return {"name": section} if isinstance(section, str) else of_type(dict, section, {})


def _training(section: Any, path: str, shared: Shared) -> tuple[Training | None, list[Problem]]:
    own = of_type(dict, section, {})
    made, found = validate(Training, {**of_type(dict, shared.training, {}), **own}, path)
    if made and shared.benchmark:
        found += check_training(made, shared.benchmark, path)
    return made, _concerning(found, path, own)


def _concerning(problems: Iterable[Problem], path: str, keys: Iterable[str]) -> list[Problem]:
    """The problems under one of `keys`. The others were reported for the shared section."""
    starts = [at(path, key) for key in keys]
    return [
        problem for problem in problems if any(lies_at(problem.path, start) for start in starts)
    ]


def _misshapen_plugin(item: Any) -> str:
    if not isinstance(item, Mapping):
        return f"is {shown(item)}, but must be a plugin's name, or its name and arguments"
    keys = ", ".join(f"'{key}'" for key in item)
    if "name" in item:
        return f"has the keys {keys}: write a plugin as its name followed by its arguments"
    if all(key in entries("plugin") for key in item):
        return f"has the keys {keys}: begin each plugin with its own '-'"
    return f"has the keys {keys}: indent a plugin's arguments below its name"
