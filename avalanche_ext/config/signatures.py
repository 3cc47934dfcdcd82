"""Signatures of constructors, read from their source, so that each default stands in one place."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from avalanche_ext.config.annotations import (
    Flag,
    Inexpressible,
    Integer,
    Number,
    Text,
    union,
    yaml_type,
)
from avalanche_ext.config.sources import (
    Found,
    Module,
    assigned,
    bundled,
    class_attribute,
    find,
    load_module,
    referred,
)

NO_DEFAULT = object()
"""The default of a parameter that must be given, or whose default is no plain value."""

# Parameters that Avalanche does not annotate, although only Python can build their values.
_OBJECTS = ("augmentations", "generator_strategy", "model", "scheduler", "storage_policy")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor.

    Attributes:
        name: Its keyword.
        annotation: Its annotation as the source has it, empty without one.
        type: The type, for pydantic, of the values that YAML can give; None if there are none.
        required: Whether it has no default.
        default: Its default where that is a plain value, else `NO_DEFAULT`.
    """

    name: str
    annotation: str
    type: Any
    required: bool
    default: Any


@dataclass(frozen=True)
class Signature:
    """The parameters of a class or function, in order, and its docstring's first paragraph."""

    parameters: tuple[Parameter, ...]
    summary: str


@cache
def read_signature(target: str) -> Signature:
    """Read the signature of `package.module:Name` from its source file.

    The name may stand for a class, a function, or `partial(function, …)`.

    Raises:
        LookupError: If the target is not installed.
    """
    module_name, _, name = target.partition(":")
    module = load_module(module_name)
    found = find(module, name) if module else None
    if found is None:
        raise LookupError(f"{target} is not installed, or its package does not export it")
    paragraph = _documentation(found).split("\n\n")[0]
    return Signature(tuple(_parameters(found)), " ".join(paragraph.split()))


def _documentation(found: Found) -> str:
    module, statement = found
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return ast.get_docstring(statement) or ""
    call = _partial(found)
    inner = call and referred(module, call.args[0])
    return _documentation(inner) if inner else ""


def _parameters(found: Found) -> list[Parameter]:
    """The keyword parameters of a function, a partial, or a class's `__init__`."""
    module, statement = found
    if isinstance(statement, ast.FunctionDef):
        return _of_function(module, statement.args)
    if isinstance(statement, ast.ClassDef):
        return _of_bundle(found) or _of_class(module, statement)
    call = _partial(found)
    inner = call and referred(module, call.args[0])
    if not call or not inner:
        return []
    bound = {word.arg: _plain(word.value, module) for word in call.keywords}
    return [
        replace(parameter, required=False, default=bound[parameter.name])
        if parameter.name in bound
        else parameter
        for parameter in _parameters(inner)[len(call.args) - 1 :]
    ]


def _of_bundle(found: Found) -> list[Parameter]:
    """The parameters of a strategy that is made of plugins: theirs, each name once."""
    attribute = class_attribute(found, "renamed")
    renamed = ast.literal_eval(attribute) if attribute else {}
    of_plugins = [each for plugin in bundled(found) for each in _parameters(plugin)]
    names = [renamed.get(each.name, each.name) for each in of_plugins]
    return [*{n: replace(p, name=n) for n, p in zip(names, of_plugins, strict=True)}.values()]


def _of_class(module: Module, definition: ast.ClassDef) -> list[Parameter]:
    """A class's own parameters, and its base's if `__init__` is inherited or takes `**kwargs`."""
    own: list[Parameter] = []
    inherits = True
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            own = _of_function(module, statement.args)[1:]
            inherits = statement.args.kwarg is not None
    bases = [referred(module, base) for base in definition.bases]
    inherited = [
        parameter
        for base in bases[:1]
        if inherits and base
        for parameter in _parameters(base)
        if all(parameter.name != mine.name for mine in own)
    ]
    return [*own, *inherited]


def _of_function(module: Module, arguments: ast.arguments) -> list[Parameter]:
    positional = [*arguments.posonlyargs, *arguments.args]
    n_without = len(positional) - len(arguments.defaults)
    defaults: list[ast.expr | None] = [*[None] * n_without, *arguments.defaults]
    return [
        *(_parameter(*pair, module) for pair in zip(positional, defaults, strict=True)),
        *(
            _parameter(*pair, module)
            for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ),
    ]


def _partial(found: Found) -> ast.Call | None:
    value = assigned(found)
    is_partial = isinstance(value, ast.Call) and ast.unparse(value.func).endswith("partial")
    return value if is_partial and isinstance(value, ast.Call) and value.args else None


def _parameter(argument: ast.arg, default: ast.expr | None, module: Module) -> Parameter:
    plain = NO_DEFAULT if default is None else _plain(default, module)
    return Parameter(
        name=argument.arg,
        annotation=ast.unparse(argument.annotation) if argument.annotation else "",
        type=_type(argument.arg, argument.annotation, plain, module),
        required=default is None,
        default=plain,
    )


def _plain(node: ast.expr, module: Module) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    found = find(module, node.id) if isinstance(node, ast.Name) else None
    value = assigned(found)
    return _plain(value, found[0]) if found and value is not None else NO_DEFAULT


def _type(name: str, annotation: ast.expr | None, default: Any, module: Module) -> Any:
    if annotation is None:
        return None if name in _OBJECTS else _like(default)
    try:
        expressible = yaml_type(annotation, module)
    except Inexpressible:
        return None
    # A default that contradicts its annotation shows that the annotation is wrong: Avalanche has
    # `batch_size: int = None` and `temperature: int = 0.1`.
    if isinstance(default, float) and expressible == Integer:
        return Number
    return union([expressible, None]) if default is None else expressible


def _like(default: Any) -> Any:
    """The type of a parameter without annotation, as its default suggests it."""
    if isinstance(default, bool):
        return Flag
    if isinstance(default, int | float):  # Avalanche's LwF also takes one alpha an experience.
        return union([Integer, Number, list[Any]])
    return Text if isinstance(default, str) else Any
