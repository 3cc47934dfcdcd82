"""Traits of plugins and strategies, read from their source without importing them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from avalanche_ext.config.sources import Found, bundled, class_attribute, find, load_module
from avalanche_ext.traits import AVALANCHE, NAMES, By, Phase, Traits


def read_traits(target: str, args: Mapping[str, Any]) -> list[Traits]:
    """Return the traits of a plugin, or of the plugins of which a strategy of ours is made.

    Args:
        target: `package.module:Name` of a class.
        args: The arguments that it is called with; traits may depend on them.
    """
    module_name, _, name = target.partition(":")
    if module_name.startswith("avalanche."):
        return [AVALANCHE.get(name, Traits())]
    module = load_module(module_name)
    found = find(module, name) if module else None
    if found is None:
        return [Traits()]
    made_of = bundled(found) or [found]
    renamed = class_attribute(found, "renamed")
    for plugins, strategys in (ast.literal_eval(renamed) if renamed else {}).items():
        args = {**args, plugins: args.get(strategys)}
    return [
        Traits(**{name: _given(value, args) for name, value in _declared(each).items()})
        for each in made_of
    ]


def _given(value: Any, args: Mapping[str, Any]) -> Any:
    return value.of(args.get(value.argument)) if isinstance(value, By) else value


def _declared(found: Found) -> dict[str, Any]:
    """The traits that a class, or a base class in the same package, declares."""
    declared = ((name, class_attribute(found, name)) for name in NAMES)
    return {name: _trait(value) for name, value in declared if value is not None}


def _trait(node: ast.expr) -> Any:
    """The value of a trait's declaration: a constant, a member of `Phase`, or a call of `by`."""
    if isinstance(node, ast.Attribute):
        return Phase[node.attr]
    if isinstance(node, ast.Call):
        argument, values = node.args
        assert isinstance(values, ast.Dict)
        pairs = zip(values.keys, values.values, strict=True)
        known = {ast.literal_eval(key): _trait(value) for key, value in pairs if key}
        return By(ast.literal_eval(argument), known, _trait(node.keywords[0].value))
    return ast.literal_eval(node)
