"""Converts annotations in source code to types of YAML values, and describes types in words.

Annotations are read from source, never evaluated as code. Scalars are strict: a bool is not an int
and text is not a number, but an int is accepted for a float.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, Field, Strict, TypeAdapter

from avalanche_ext.config.sources import Module, assigned, find
from avalanche_ext.words import shown

Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict(), AllowInfNan(False)]
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]

_NAMED: dict[str, Any] = {
    "int": Integer,
    "float": Number,
    "bool": Flag,
    "str": Text,
    "Path": Text,
    "Any": Any,
    "object": Any,
    "list": list[Any],
    "List": list[Any],
    "dict": dict[Text, Any],
    "Dict": dict[Text, Any],
    "PositiveInt": Annotated[Integer, Gt(0)],
    "NonNegativeInt": Annotated[Integer, Ge(0)],
    "PositiveFloat": Annotated[Number, Gt(0)],
    "NonNegativeFloat": Annotated[Number, Ge(0)],
    "FiniteFloat": Number,
}
_LISTS = ("list", "List", "Sequence", "Iterable", "Collection")
_MAPPINGS = ("dict", "Dict", "Mapping")
_METADATA: dict[str, Callable[..., Any]] = {"Field": Field, "Gt": Gt, "Ge": Ge, "Lt": Lt, "Le": Le}
_TYPING = ("typing", "t", "pydantic", "annotated_types", "builtins")

_KINDS = {"string": "text", "boolean": "true | false", "object": "mapping"}
_LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


class Inexpressible(Exception):
    """No YAML value fits the annotation (a tensor, a module, a buffer)."""


def yaml_type(node: ast.expr, module: Module) -> Any:
    """Return the pydantic type of the YAML values that fit the annotation `node`.

    Members of a union that YAML cannot express are left out. Names that are neither builtins nor
    from typing or pydantic are looked up as aliases in `module` and its imports.

    Raises:
        Inexpressible: If YAML can express no member but None.
    """
    members = _members(node, module)
    if all(member is None for member in members):
        raise Inexpressible(ast.unparse(node))
    return union(members)


def union(members: list[Any]) -> Any:
    """Return the union of types; None stands for the type of None."""
    return reduce(or_, (type(None) if member is None else member for member in members))


def describe(type_: Any) -> str:
    """Describe in words which values a type accepts.

    >>> from pydantic import PositiveInt
    >>> describe(list[PositiveInt] | None)
    'list of integer > 0 | null'
    """
    return _describe(TypeAdapter(type_).json_schema())


def _describe(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_describe(member) for member in schema["anyOf"])
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return " | ".join(shown(value) for value in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(_describe(item) for item in schema['prefixItems'])}]"
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_describe(schema.get('items', {}))}"
    limits = [f"{sign} {schema[key]:g}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([_KINDS.get(kind, kind), " and ".join(limits)]).rstrip()


def _members(node: ast.expr, module: Module) -> list[Any]:
    alternatives = _alternatives(node)
    if len(alternatives) == 1:
        return [_single(alternatives[0], module)]
    members: list[Any] = []
    for alternative in alternatives:
        try:
            members.append(yaml_type(alternative, module))
        except Inexpressible:
            if ast.unparse(alternative) == "None":
                members.append(None)
    return members


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    if isinstance(node, ast.Subscript):
        head = _name(node.value)
        if head == "Optional":
            return [*_alternatives(node.slice), ast.Constant(None)]
        if head == "Union":
            return [leaf for item in _items(node.slice) for leaf in _alternatives(item)]
    return [node]


def _single(node: ast.expr, module: Module) -> Any:
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return yaml_type(ast.parse(node.value, mode="eval").body, module)
    if isinstance(node, ast.Subscript):
        return _generic(_name(node.value), node, module)
    name = _name(node)
    if name in _NAMED:
        return _NAMED[name]
    return _alias(name, module)


def _generic(head: str | None, node: ast.Subscript, module: Module) -> Any:
    items = _items(node.slice)
    if head == "Literal":
        return Literal[tuple(ast.literal_eval(item) for item in items)]
    if head == "Annotated":
        metadata = tuple(_metadata(item) for item in items[1:])
        return Annotated[(yaml_type(items[0], module), *metadata)]
    if head in _LISTS:
        return list[yaml_type(items[0], module)]  # type: ignore[misc]
    if head in _MAPPINGS:
        return dict[yaml_type(items[0], module), yaml_type(items[1], module)]  # type: ignore[misc]
    if head in ("tuple", "Tuple"):
        return tuple[tuple(_element(item, module) for item in items)]  # type: ignore[misc]
    raise Inexpressible(ast.unparse(node))


def _element(item: ast.expr, module: Module) -> Any:
    is_ellipsis = isinstance(item, ast.Constant) and item.value is ...
    return ... if is_ellipsis else yaml_type(item, module)


def _metadata(node: ast.expr) -> Any:
    name = _name(node.func) if isinstance(node, ast.Call) else None
    if not isinstance(node, ast.Call) or name not in _METADATA:
        raise Inexpressible(ast.unparse(node))
    positional = [ast.literal_eval(argument) for argument in node.args]
    keywords = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
    return _METADATA[name](*positional, **keywords)


def _alias(name: str | None, module: Module) -> Any:
    found = find(module, name) if name else None
    if found and isinstance(found[1], ast.ClassDef) and _is_weights(found[1]):
        return Text
    value = assigned(found)
    if found is None or value is None:
        raise Inexpressible(name or "")
    return yaml_type(value, found[0])


def _is_weights(definition: ast.ClassDef) -> bool:
    """Return whether a class is an enumeration of torchvision's weights, given by name alone."""
    return any(_name(base) == "WeightsEnum" for base in definition.bases)


def _items(node: ast.expr) -> list[ast.expr]:
    return [*node.elts] if isinstance(node, ast.Tuple) else [node]


def _name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    is_typing = (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in _TYPING
    )
    return node.attr if is_typing and isinstance(node, ast.Attribute) else None
