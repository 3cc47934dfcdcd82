"""Types in the words of someone who writes YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from avalanche_ext.config.errors import shown

_NAMES = {"string": "text", "boolean": "true | false", "object": "mapping"}
_LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def describe(type_: Any) -> str:
    """Return what values a type admits.

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
    return " ".join([_NAMES.get(kind, kind), " and ".join(limits)]).rstrip()
