"""Plain values checked against pydantic types, with errors in this package's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from avalanche_ext.config.errors import Problem, at, closest, did_you_mean, lies_at, shown
from avalanche_ext.config.reader import is_number

_WRONG_TYPE = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
}
_OUT_OF_RANGE = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
}


def rejection(message: str) -> PydanticCustomError:
    """Return the error that a validator raises to show `message` as it is."""
    return PydanticCustomError("own_words", "{message}", {"message": message})


def validate(type_: Any, value: Any, path: str) -> tuple[Any, list[Problem]]:
    """Validate one value.

    Args:
        type_: The type it should have: a model, or any annotation that pydantic understands.
        value: The value in the YAML.
        path: Path of the value in the YAML.

    Returns:
        The validated value and no problem, or None and one problem for each path that is wrong.
    """
    try:
        return TypeAdapter(type_).validate_python(value), []
    except ValidationError as error:
        by_path: dict[str, list[ErrorDetails]] = {}
        for details in error.errors(include_url=False):
            by_path.setdefault(_locate(details, value, path), []).append(details)
    return None, [
        Problem(where, _message(errors, type_, nullable=where == path and _admits_null(type_)))
        for where, errors in by_path.items()
        if not _explained_below(where, by_path)
    ]


def of_type(type_: type, value: Any, default: Any) -> Any:
    """Return `value` if it has the type, else `default`: the problem is reported elsewhere."""
    return value if isinstance(value, type_) else default


def _locate(details: ErrorDetails, value: Any, path: str) -> str:
    """Return an error's path in the YAML.

    Pydantic's location also has parts that are not in the YAML: the union member that was tried,
    and `[key]` for an error about a mapping's key.
    """
    for key in details["loc"]:
        try:
            path, value = at(path, key), value[key]
        except (IndexError, KeyError, TypeError):
            continue
    return at(path, details["loc"][-1]) if details["type"] == "missing" else path


def _explained_below(path: str, paths: Mapping[str, Any]) -> bool:
    """Return whether another error lies below `path`: one union member got further than another."""
    return any(other != path and lies_at(other, path) for other in paths)


def _admits_null(type_: Any) -> bool:
    return type(None) in get_args(type_)


def _message(errors: list[ErrorDetails], type_: Any, nullable: bool) -> str:
    # The union member that fits the value's type is the one that was meant.
    errors = [details for details in errors if _is_about_range(details)] or errors
    first = errors[0]
    value, kind = first["input"], first["type"]
    if kind == "missing":
        return "missing"
    if kind == "own_words":
        return first["msg"]
    if kind == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"unknown key '{key}'{did_you_mean(key, _keys(type_, first['loc']))}"
    expected = dict.fromkeys(_expected(details) for details in errors)
    if "a number" in expected:
        expected.pop("an integer", None)
    if nullable:
        expected["null"] = None
    return f"is {shown(value)}, but must be {' or '.join(expected)}{_hint(value, errors)}"


def _is_about_range(details: ErrorDetails) -> bool:
    return details["type"] not in (*_WRONG_TYPE, "literal_error")


def _keys(type_: Any, location: Sequence[int | str]) -> list[str]:
    """Return the known keys beside the unknown one at `location` in a value of type `type_`."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        if len(location) == 1:
            return [*type_.model_fields]
        return _keys(type_.model_fields[str(location[0])].annotation, location[1:])
    is_mapping = get_origin(type_) is dict
    return _keys(get_args(type_)[1], location[1:]) if is_mapping else []


def _expected(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind in _WRONG_TYPE:
        return _WRONG_TYPE[kind]
    if kind in _OUT_OF_RANGE:
        limits = {key: _plain(limit) for key, limit in details["ctx"].items()}
        return _OUT_OF_RANGE[kind].format(**limits)
    message = details["msg"]
    return message.removeprefix("Input should be ").removeprefix("Value should be ")


def _plain(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _hint(value: Any, errors: list[ErrorDetails]) -> str:
    options = [
        option
        for details in errors
        if details["type"] == "literal_error"
        for option in re.findall(r"'([^']*)'", details["ctx"]["expected"])
    ]
    if not isinstance(value, str):
        return " (put it in quotes)" if shown(value) in options else ""
    if is_number(value) and any(
        details["type"] in ("int_type", "float_type") for details in errors
    ):
        return " (remove the quotes)"
    near = closest(value, options)
    return f" (did you mean '{near}'?)" if near else ""
