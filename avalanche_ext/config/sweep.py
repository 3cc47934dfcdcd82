"""A method's `sweep`: one section of the YAML that defines a method per value of a parameter."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avalanche_ext.config.errors import ConfigError, Problem, at, lies_at
from avalanche_ext.config.methods import Shared, resolve_method
from avalanche_ext.config.overrides import write
from avalanche_ext.config.schema import Method
from avalanche_ext.config.sections import FOLDER_NAME, FOLDER_RULE, SweepValues
from avalanche_ext.config.validation import of_type, validate
from avalanche_ext.results.record import Sweep
from avalanche_ext.results.tune import parameter_name
from avalanche_ext.words import shown


@dataclass(frozen=True)
class Expansion:
    """The methods that a section with a `sweep` defines.

    Attributes:
        sweep: Parameter and values; None if the sweep itself is malformed.
        methods: The valid methods by name.
        problems: All problems with the section, each once.
    """

    sweep: Sweep | None
    methods: dict[str, Method] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_swept(section: Any) -> bool:
    """Return whether a method's section has a sweep."""
    return isinstance(section, Mapping) and section.get("sweep") is not None


def expand(
    name: str, section: Mapping[str, Any], shared: Shared, taken: Container[str]
) -> Expansion:
    """Build a method `<name>-<value>` for each value of a section's sweep.

    A problem with all values is reported once, as for a single method. A problem with some values
    names them; if the sweep's parameter causes it, it is reported at the value.

    Args:
        name: The section's name.
        section: The section, with a sweep.
        shared: What all methods of the experiment share.
        taken: The names of other methods.
    """
    path = at("methods", name)
    base = {key: value for key, value in section.items() if key != "sweep"}
    _, base_problems = resolve_method(base, path, shared)
    swept, malformed = validate(SweepValues, section["sweep"], at(path, "sweep"))
    if malformed:
        # Keys that the sweep would set are not missing.
        given = [at(path, key) for key in of_type(dict, section["sweep"], {})]
        others = [problem for problem in base_problems if problem.path not in given]
        return Expansion(None, problems=[*others, *malformed])
    ((key, values),) = swept.items()
    base = with_shared(base, key, shared)
    sweep = Varied(key, values, target(base, name, key), at(at(path, "sweep"), key))
    names = [f"{name}-{value_name(value)}" for value in values]
    methods: dict[str, Method] = {}
    problems: list[list[Problem]] = []
    for full_name, value in zip(names, values, strict=True):
        try:
            method, found = resolve_method(with_value(base, name, key, value), path, shared)
        except ConfigError as error:
            method, found = None, [*base_problems, *error.problems]
        if method:
            methods[full_name] = method
        problems.append(found)
    return Expansion(
        Sweep(parameter_name(key), dict(zip(names, values, strict=True))),
        methods,
        [*reported(problems, base_problems, sweep), *_misnamed(name, names, sweep, taken)],
    )


@dataclass(frozen=True)
class Varied:
    """A parameter that takes several values.

    Attributes:
        key: Its path below the method, as in the YAML.
        values: Its values.
        target: The path of problems with a single value, if the YAML gave only that value.
        path: Path of the values in the YAML.
    """

    key: str
    values: list[Any]
    target: str
    path: str


def value_name(value: Any) -> str:
    """Return the suffix that a value adds to a method's name.

    >>> value_name("Adam"), value_name(0.1), value_name(True), value_name([10, 20]), value_name([])
    ('Adam', '0.1', 'true', '10x20', 'empty')
    """
    if isinstance(value, list):
        return "x".join(map(value_name, value)) or "empty"
    return value if isinstance(value, str) else json.dumps(value)


def with_shared(base: Mapping[str, Any], key: str, shared: Shared) -> dict[str, Any]:
    """Return the section with the shared settings of which the sweep changes a part."""
    parts = re.match(r"(model|optimizer|training)\.(\w+)[.\[]", key)
    if not parts:
        return {**base}
    section, name = parts.groups()
    own, common = base.get(section), getattr(shared, section)
    own = {} if own is None else own
    is_another = (
        section != "training"
        and isinstance(own, Mapping)
        and "name" in own
        and own["name"] != of_type(dict, common, {}).get("name")
    )
    given = of_type(dict, common, {}).get(name)
    if not isinstance(own, Mapping) or name in own or given is None or is_another:
        return {**base}
    return {**base, section: {**own, name: given}}


def target(base: Mapping[str, Any], method: str, key: str) -> str:
    """Return the path of problems with the value at `key` in a method's section."""
    document = {"methods": {method: copy.deepcopy(base)}}
    path = at(at("methods", method), key)
    try:
        return write(document, path, None)
    except ConfigError:
        return path


def with_value(base: Mapping[str, Any], method: str, key: str, value: Any) -> dict[str, Any]:
    """Return a method's section with a value at `key`.

    Raises:
        ConfigError: If the path does not fit the section.
    """
    section: dict[str, Any] = {**copy.deepcopy(base)}
    write({"methods": {method: section}}, at(at("methods", method), key), value)
    return section


def reported(
    problems: Sequence[Sequence[Problem]], base: Sequence[Problem], sweep: Varied
) -> Iterator[Problem]:
    """Yield each problem once, at the path of its cause.

    Args:
        problems: The problems with each value.
        base: The problems without any value.
        sweep: The parameter.
    """
    values_with: dict[Problem, list[int]] = {}
    for index, found in enumerate(problems):
        for problem in dict.fromkeys(found):
            values_with.setdefault(problem, []).append(index)
    for problem, indices in values_with.items():
        always = len(indices) == len(problems)
        # For a list, the item is named too.
        is_in_value = problem.path.startswith(f"{sweep.target}[")
        item = problem.path.removeprefix(sweep.target) if is_in_value else ""
        if item or (lies_at(sweep.target, problem.path) and not (always and problem in base)):
            is_one = always and not item
            paths = [sweep.path] if is_one else [at(sweep.path, index) for index in indices]
            yield from (Problem(f"{path}{item}", problem.message) for path in paths)
        elif always:
            yield problem
        else:
            which = " or ".join(shown(sweep.values[index]) for index in indices)
            yield Problem(problem.path, f"{problem.message} (when {sweep.key} is {which})")


def _misnamed(
    method: str, names: Sequence[str], sweep: Varied, taken: Container[str]
) -> Iterator[Problem]:
    """Yield problems with values whose names are not valid folder names, or are taken."""
    if not re.fullmatch(FOLDER_NAME, method):
        return
    counts = Counter(names)
    for index, (name, value) in enumerate(zip(names, sweep.values, strict=True)):
        path = at(sweep.path, index)
        if not re.fullmatch(FOLDER_NAME, name):
            wrong = f"but the method {shown(name)} must be a folder name: {FOLDER_RULE}"
            yield Problem(path, f"is {shown(value)}, {wrong}")
        elif name in taken or (counts[name] > 1 and name in names[:index]):
            yield Problem(path, f"is {shown(value)}, but another method has the name '{name}'")
