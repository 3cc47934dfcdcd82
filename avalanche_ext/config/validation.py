"""Plain values checked against pydantic types, with errors in this package's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from avalanche_ext.config.errors import Problem, at, lies_at
from avalanche_ext.validation import meant, wrong_value
from avalanche_ext.words import did_you_mean


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
    first = meant(errors)[0]
    kind = first["type"]
    if kind == "missing":
        return "missing"
    if kind == "own_words":
        return first["msg"]
    if kind == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"unknown key '{key}'{did_you_mean(key, _keys(type_, first['loc']))}"
    return wrong_value(errors, nullable)


def _keys(type_: Any, location: Sequence[int | str]) -> list[str]:
    """Return the known keys beside the unknown one at `location` in a value of type `type_`."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        if len(location) == 1:
            return [*type_.model_fields]
        return _keys(type_.model_fields[str(location[0])].annotation, location[1:])
    is_mapping = get_origin(type_) is dict
    return _keys(get_args(type_)[1], location[1:]) if is_mapping else []
