"""Checks a name and arguments from the YAML against a signature, and makes a component of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from avalanche_ext.config.annotations import describe
from avalanche_ext.config.catalogue import AVALANCHE, INJECTED, KINDS, OURS, Entry, Kind, entries
from avalanche_ext.config.errors import Problem, at
from avalanche_ext.config.schema import Component
from avalanche_ext.config.signatures import NO_DEFAULT, Parameter, Signature, read_signature
from avalanche_ext.config.validation import validate
from avalanche_ext.words import did_you_mean, shown, suggestion

_ADVICE: dict[Kind, str] = {
    "plugin": "plugins go into the method's list 'plugins'",
    "strategy": "strategies go into the method's key 'strategy'",
    "benchmark": "it goes into 'benchmark'",
    "model": "it goes into 'model'",
    "optimizer": "it goes into 'optimizer'",
}


def settable(kind: Kind, signature: Signature) -> Iterator[Parameter]:
    """Yield the parameters that a YAML may set."""
    for parameter in signature.parameters:
        if parameter.name not in INJECTED[kind] and parameter.type is not None:
            yield parameter


def find_entry(kind: Kind, name: str, path: str) -> tuple[Entry | None, list[Problem]]:
    """Return what a name stands for, or None and the problem with the name at `path`."""
    known = entries(kind)
    if name in known:
        return known[name], []
    for other in KINDS:
        if name in entries(other):
            return None, [Problem(path, f"'{name}' is a {other}, not a {kind}: {_ADVICE[other]}")]
    advice = suggestion(name, [*known]) or f"known: {', '.join(_shown_names(kind))}"
    return None, [Problem(path, f"unknown {kind} {shown(name)} ({advice})")]


def _shown_names(kind: Kind) -> list[str]:
    if kind in ("plugin", "strategy"):
        return [*OURS[kind], f"{AVALANCHE}<class name>"]
    return [*entries(kind)]


def component(
    kind: Kind, name: str, args: Mapping[str, Any], path: str, name_path: str
) -> tuple[Component | None, list[Problem]]:
    """Check a component's name and arguments.

    Args:
        kind: What it must be.
        name: What the YAML calls it.
        args: The arguments the YAML gives.
        path: Where the YAML has the arguments.
        name_path: Where the YAML has the name.

    Returns:
        The component and no problem, or None and all problems with it.
    """
    entry, problems = find_entry(kind, name, name_path)
    if entry is None:
        return None, problems
    try:
        signature = read_signature(entry.target)
    except LookupError as error:
        return None, [Problem(name_path, f"'{name}' cannot be used: {error}")]
    parameters = {parameter.name: parameter for parameter in settable(kind, signature)}
    values: dict[str, Any] = {}
    for key, value in args.items():
        where = at(path, key)
        if key not in parameters:
            problems.append(Problem(where, _refusal(kind, key, signature, [*parameters])))
            continue
        type_ = parameters[key].type
        checked, found = validate(type_, value, where)
        problems += found
        if not found:
            values[key] = TypeAdapter(type_).dump_python(checked, mode="json")
    missing = [
        parameter
        for parameter in signature.parameters
        if parameter.required and parameter.name not in (*INJECTED[kind], *args)
    ]
    problems += _missing(missing, name, path, name_path)
    if problems:
        return None, problems
    defaults = _defaults(parameters) if entry.is_ours else {}
    return Component(name, entry.target, {**defaults, **values}), []


def _refusal(kind: Kind, key: str, signature: Signature, known: list[str]) -> str:
    if key in INJECTED[kind] and any(known.name == key for known in signature.parameters):
        source = INJECTED[kind][key]
        return f"'{key}' cannot be set here{f': it comes from {source}' if source else ''}"
    for parameter in signature.parameters:
        if parameter.name == key:
            advice = "leave it out, or use a script"
            return f"'{key}' takes a Python object ({parameter.annotation}): {advice}"
    return f"unknown key '{key}'{did_you_mean(key, known) or ' (it takes none)'}"


def _missing(
    parameters: Sequence[Parameter], name: str, path: str, name_path: str
) -> Iterator[Problem]:
    objects = [f"'{parameter.name}'" for parameter in parameters if parameter.type is None]
    if objects:
        needs = f"it needs Python objects for {', '.join(objects)}"
        yield Problem(name_path, f"'{name}' cannot be built from a YAML: {needs}")
        return
    for parameter in parameters:
        needs = f"missing, but '{name}' needs it ({describe(parameter.type)})"
        yield Problem(at(path, parameter.name), needs)


def _defaults(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The plain defaults, converted as values of a YAML are (a float's 2 becomes 2.0)."""
    plain: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.default is not NO_DEFAULT:
            adapter = TypeAdapter(parameter.type)
            plain[name] = adapter.dump_python(
                adapter.validate_python(parameter.default), mode="json"
            )
    return plain
