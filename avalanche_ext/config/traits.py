"""Traits of plugins and strategies, read from their source without importing them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from avalanche_ext.config.signatures import locate, read_signature
from avalanche_ext.config.sources import Found, ancestry, bundled, class_attribute, is_file
from avalanche_ext.traits import AVALANCHE, NAMES, By, Phase, Traits


def read_traits(target: str, args: Mapping[str, Any]) -> list[Traits]:
    """Return the traits of a plugin, or of the plugins in one of our strategies.

    Args:
        target: `package.module:Name` or `/folder/file.py:Name` of a class. Traits that a class from
            another package or the user does not declare come from its bases.
        args: Its arguments; traits may depend on them.
    """
    module_name, _, name = target.rpartition(":")
    if module_name.startswith("avalanche."):
        return [AVALANCHE.get(name, Traits())]
    try:
        source = _read(target) if is_file(target) else _read_installed(target)
    except LookupError:
        return [Traits()]
    # If the YAML omits an argument of a user's class, the default applies.
    args = {**read_signature(target).defaults(), **args}
    for plugins, strategys in source.renamed.items():
        args = {**args, plugins: args.get(strategys)}
    return [_traits(each, args) for each in source.parts]


@dataclass(frozen=True)
class _Part:
    """The traits in a class's source: its Avalanche base's traits, and those it declares."""

    known: Traits
    declared: dict[str, Any]


@dataclass(frozen=True)
class _Source:
    """The traits in the source of a class, or of each plugin in one of our strategies."""

    parts: tuple[_Part, ...]
    renamed: dict[str, str]


def _read(target: str) -> _Source:
    found = locate(target)
    plugins = bundled(found)
    renamed = class_attribute(found, "renamed") if plugins else None
    return _Source(
        tuple(map(_part, plugins or [found])), ast.literal_eval(renamed) if renamed else {}
    )


_read_installed = cache(_read)  # Installed packages do not change during the run.


def _part(found: Found) -> _Part:
    theirs = [each.name for module, each in ancestry(found) if module.package == "avalanche"]
    known = next((AVALANCHE[name] for name in theirs if name in AVALANCHE), Traits())
    return _Part(known, _declared(found))


def _traits(part: _Part, args: Mapping[str, Any]) -> Traits:
    """Return Avalanche's traits of a class's base, overridden by declared ones."""
    given = {name: _given(value, args) for name, value in part.declared.items()}
    # A user's class may use these names for something else.
    declared: dict[str, Any] = {n: v for n, v in given.items() if isinstance(v, Phase | bool)}
    return replace(part.known, **declared)


def _given(value: Any, args: Mapping[str, Any]) -> Any:
    return value.of(args.get(value.argument)) if isinstance(value, By) else value


def _declared(found: Found) -> dict[str, Any]:
    """Return the traits that a class or a base class declares."""
    declared = ((name, class_attribute(found, name)) for name in NAMES)
    return {name: _trait(value) for name, value in declared if value is not None}


def _trait(node: ast.expr) -> Any:
    """The value of a trait's declaration: a constant, a member of `Phase`, or a call of `by`.

    None if the declaration is none of these.
    """
    if isinstance(node, ast.Attribute):
        return Phase.__members__.get(node.attr)
    if isinstance(node, ast.Call):
        return _by(node)
    return node.value if isinstance(node, ast.Constant) else None


def _by(call: ast.Call) -> By | None:
    words = {word.arg: word.value for word in call.keywords}
    parts = [*call.args, *(words[name] for name in ("values", "otherwise") if name in words)]
    try:
        argument, values, otherwise = parts
        assert isinstance(values, ast.Dict)
        pairs = zip(values.keys, values.values, strict=True)
        known = {ast.literal_eval(key): _trait(value) for key, value in pairs if key}
        return By(ast.literal_eval(argument), known, _trait(otherwise))
    except (AssertionError, ValueError, TypeError):
        return None
