"""The data sets and transforms that the arguments of our benchmarks name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from avalanche_ext.config.components import component, find_entry, signature_of
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.schema import Component
from avalanche_ext.config.signatures import read_signature
from avalanche_ext.words import did_you_mean, shown

# Types of arguments that hold a name; see benchmarks/argument_types.py.
_DATASET, _DATASETS, _TRANSFORMS = "DatasetName", "DatasetNames", "Transforms"
_GROUPS = ("args", "train", "test")
_CHOOSE_PART = ("train", "split")
"""Parameters of data sets that a benchmark fills with true and false, or "train" and "test"."""


def with_parts(benchmark: Component, path: str) -> tuple[Component, list[Problem]]:
    """Return one of our benchmarks with the data sets and transforms that its arguments name.

    Args:
        benchmark: The benchmark.
        path: The path of its arguments in the YAML.

    Returns:
        The benchmark with its parts, and the problems with their names and arguments.
    """
    if not benchmark.target.startswith("avalanche_ext."):
        return benchmark, []
    args: dict[str, Any] = {**benchmark.args}
    parts: dict[tuple[str | int, ...], Component] = {}
    problems: list[Problem] = []
    for parameter in read_signature(benchmark.target).parameters:
        key, value = parameter.name, args.get(parameter.name)
        if value is None:
            continue
        where = at(path, key)
        if parameter.annotation == _DATASET:
            groups = {group: args.get(group) for group in _GROUPS}
            part, found = _dataset(value, groups, where, path)
            problems += found
            if part:
                parts[(key,)] = part
        elif parameter.annotation == _DATASETS:
            entries = []
            for i, item in enumerate(value):
                part, entry, found = _listed_dataset(item, at(where, i))
                entries.append(entry)
                problems += found
                if part:
                    parts[(key, i, "name")] = part
            if not entries:
                problems.append(Problem(where, "is empty, but must name at least one data set"))
            args[key] = entries
        elif parameter.annotation == _TRANSFORMS:
            entries = []
            for i, item in enumerate(value):
                part, found = _transform(item, at(where, i))
                problems += found
                if part:
                    parts[(key, i)] = part
                    entries.append({"name": part.name, **part.args})
            args[key] = entries
    return replace(benchmark, args=args, parts=parts), problems


def _listed_dataset(item: Any, path: str) -> tuple[Component | None, dict[str, Any], list[Problem]]:
    """Resolve one of several data sets: a name, or a mapping with a name and arguments."""
    if not isinstance(item, Mapping):
        part, found = _dataset(item, {}, path, path)
        return part, {"name": item}, found
    known = ("name", *_GROUPS)
    problems = [
        Problem(at(path, key), f"unknown key '{key}'{did_you_mean(key, known)}")
        for key in item
        if key not in known
    ]
    if "name" not in item:
        problems.append(Problem(at(path, "name"), "missing, must be the name of a data set"))
        return None, {}, problems
    groups = {group: item.get(group) for group in _GROUPS}
    for group, given in groups.items():
        if not isinstance(given, Mapping | None):
            wrong = f"is {shown(given)}, but must be a mapping of arguments"
            problems.append(Problem(at(path, group), wrong))
    if problems:
        return None, {}, problems
    part, found = _dataset(item["name"], groups, at(path, "name"), path)
    return part, {"name": item["name"], **{k: v for k, v in groups.items() if v}}, found


def _dataset(
    name: Any, groups: Mapping[str, Any], name_path: str, path: str
) -> tuple[Component | None, list[Problem]]:
    """Check a data set's name, and the arguments of both of its parts.

    Args:
        name: The name in the YAML.
        groups: The arguments of both parts, of the training part and of the test part.
        name_path: The path of the name in the YAML.
        path: The path of the groups in the YAML.
    """
    if not isinstance(name, str):
        return None, [Problem(name_path, f"is {shown(name)}, but must be the name of a data set")]
    entry, problems = find_entry("dataset", name, name_path)
    if entry is None:
        return None, problems
    common = dict(groups.get("args") or {})
    own = [dict(groups.get(group) or {}) for group in _GROUPS[1:]]
    filled = _filled(signature_of("dataset", entry), {*common, *own[0], *own[1]})
    made = None
    for values in own if any(own) else own[:1]:
        made, found = component(
            "dataset", name, {**filled, **common, **values}, path=path, name_path=name_path
        )
        for each in found:
            is_missing = each.message.startswith("missing")
            where = _group_path(each.path, path, groups, is_missing)
            problems.append(replace(each, path=where))
    unique = [*{(each.path, each.message): each for each in problems}.values()]
    return made and replace(made, args={}), unique


def _filled(signature: Any, given: set[str]) -> dict[str, Any]:
    """Return values for the required parameters that the benchmark fills."""
    values = {"train": True, "split": "train"}
    names = [each.name for each in signature.parameters if each.required]
    return {key: values[key] for key in _CHOOSE_PART if key in names and key not in given}


def _group_path(found: str, path: str, groups: Mapping[str, Any], is_missing: bool) -> str:
    """Return the YAML's path of the argument with a problem: `benchmark.args.rot`."""
    rest = found.removeprefix(path).lstrip(".")
    first = rest.partition(".")[0].partition("[")[0]
    if not found.startswith(f"{path}.") or found.endswith((".dataset", ".name")):
        return found
    # An argument that only one part lacks counts as missing from both.
    owners = (
        [] if is_missing else [group for group in _GROUPS if first in (groups.get(group) or {})]
    )
    return at(at(path, owners[0] if owners else "args"), rest)


def _transform(item: Any, path: str) -> tuple[Component | None, list[Problem]]:
    if isinstance(item, str):
        return component("transform", item, {}, path=path, name_path=path)
    name = item.get("name") if isinstance(item, Mapping) else None
    if not isinstance(name, str):
        wrong = "must be a transform's name, or a mapping of 'name' and its arguments"
        return None, [Problem(path, f"is {shown(item)}, but {wrong}")]
    args = {key: value for key, value in item.items() if key != "name"}
    return component("transform", name, args, path=path, name_path=at(path, "name"))
