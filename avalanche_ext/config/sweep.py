"""A method's `sweep`: one section of the YAML that stands for a method per value of a parameter."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avalanche_ext.config.errors import ConfigError, Problem, at, lies_at, shown
from avalanche_ext.config.methods import Shared, resolve_method
from avalanche_ext.config.overrides import write
from avalanche_ext.config.schema import Method, Sweep
from avalanche_ext.config.sections import FOLDER_NAME, FOLDER_RULE, SweepValues
from avalanche_ext.config.validation import of_type, validate


@dataclass(frozen=True)
class Expansion:
    """The methods that a section with a `sweep` stands for.

    Attributes:
        sweep: Parameter and values; None where the sweep itself is wrong.
        methods: By name, those that can be built.
        problems: All problems with the section, each once.
    """

    sweep: Sweep | None
    methods: dict[str, Method] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_swept(section: Any) -> bool:
    """Whether a method's section stands for several methods."""
    return isinstance(section, Mapping) and section.get("sweep") is not None


def expand(
    name: str, section: Mapping[str, Any], shared: Shared, taken: Container[str]
) -> Expansion:
    """Build a method `<name>-<value>` for each value of a section's sweep.

    Problems that a method has for some values only are told with the value: at its place in the
    sweep, if what is wrong is what the value was written to. All others are told once, as if there
    were one method.

    Args:
        name: The section's name.
        section: What the YAML has, with a sweep.
        shared: What the experiment says of all methods.
        taken: The names that other methods have.
    """
    path = at("methods", name)
    base = {key: value for key, value in section.items() if key != "sweep"}
    _, base_problems = resolve_method(base, path, shared)
    swept, malformed = validate(SweepValues, section["sweep"], at(path, "sweep"))
    if malformed:
        # What the sweep was to give is not missing.
        given = [at(path, key) for key in of_type(dict, section["sweep"], {})]
        others = [problem for problem in base_problems if problem.path not in given]
        return Expansion(None, problems=[*others, *malformed])
    ((key, values),) = swept.items()
    sweep = _Sweep(name, key, values)
    methods: dict[str, Method] = {}
    problems: list[list[Problem]] = []
    for full_name, value in zip(sweep.names, values, strict=True):
        try:
            method, found = resolve_method(_with(value, base, sweep), path, shared)
        except ConfigError as error:
            method, found = None, [*base_problems, *error.problems]
        if method:
            methods[full_name] = method
        problems.append(found)
    return Expansion(
        Sweep(_parameter(key), dict(zip(sweep.names, values, strict=True))),
        methods,
        [*_told(problems, base_problems, sweep), *_misnamed(sweep, taken)],
    )


@dataclass(frozen=True)
class _Sweep:
    """A sweep as the YAML has it: the method's name, the path and its values."""

    method: str
    key: str
    values: list[Any]

    @property
    def names(self) -> list[str]:
        """The names of its methods."""
        return [f"{self.method}-{_text(value)}" for value in self.values]

    @property
    def path(self) -> str:
        """Where the YAML has the values."""
        return at(at(at("methods", self.method), "sweep"), self.key)

    @property
    def target(self) -> str:
        """Where the YAML would have one value without the sweep."""
        return at(at("methods", self.method), self.key)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parameter(key: str) -> str:
    """The last name of a path: `lam` of `plugins[1].drl.lam`, `betas` of `optimizer.betas[0]`."""
    return re.sub(r"\[\d+\]", "", key).rpartition(".")[2]


def _with(value: Any, base: Mapping[str, Any], sweep: _Sweep) -> Any:
    """The section with one of the values."""
    document = {"methods": {sweep.method: copy.deepcopy(base)}}
    write(document, sweep.target, value)
    return document["methods"][sweep.method]


def _told(
    problems: Sequence[Sequence[Problem]], base: Sequence[Problem], sweep: _Sweep
) -> Iterator[Problem]:
    """Each of the values' problems once, where the YAML has its cause.

    Args:
        problems: The problems with each value.
        base: The problems without any.
        sweep: The sweep.
    """
    values_with: dict[Problem, list[int]] = {}
    for index, found in enumerate(problems):
        for problem in dict.fromkeys(found):
            values_with.setdefault(problem, []).append(index)
    for problem, indices in values_with.items():
        always = len(indices) == len(problems)
        if lies_at(sweep.target, problem.path) and not (always and problem in base):
            paths = [sweep.path] if always else [at(sweep.path, index) for index in indices]
            yield from (Problem(path, problem.message) for path in paths)
        elif always:
            yield problem
        else:
            which = " or ".join(shown(sweep.values[index]) for index in indices)
            yield Problem(problem.path, f"{problem.message} (where {sweep.key} is {which})")


def _misnamed(sweep: _Sweep, taken: Container[str]) -> Iterator[Problem]:
    """The values whose names cannot be those of folders, or are those of other methods."""
    if not re.fullmatch(FOLDER_NAME, sweep.method):
        return
    for index, (name, value) in enumerate(zip(sweep.names, sweep.values, strict=True)):
        path = at(sweep.path, index)
        if not re.fullmatch(FOLDER_NAME, name):
            wrong = f"the method {shown(name)}, which names a folder: {FOLDER_RULE}"
            yield Problem(path, f"is {shown(value)}, but would make {wrong}")
        elif name in taken or name in sweep.names[:index]:
            wrong = f"is {shown(value)}, but there is another method '{name}'"
            yield Problem(path, wrong)
