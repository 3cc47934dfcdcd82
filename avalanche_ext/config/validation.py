"""Checks of plain values against pydantic types, with this package's error messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from avalanche_ext.config.errors import MOST_PROBLEMS, Problem, at, lies_at
from avalanche_ext.validation import meant, wrong_value
from avalanche_ext.words import did_you_mean, shown


def rejection(message: str) -> PydanticCustomError:
    """Return the error that a validator raises to show `message` unchanged."""
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
        checked = adapter(type_).validate_python(value)
        problems = [*_too_large(checked, path)]
        return (None if problems else checked), problems
    except ValidationError as error:
        by_path: dict[str, list[ErrorDetails]] = {}
        for details in error.errors(include_url=False):
            by_path.setdefault(_locate(details, value, path), []).append(details)
    shown_first = dict(islice(by_path.items(), MOST_PROBLEMS))
    problems = [
        Problem(where, _message(errors, type_, nullable=where == path and _admits_null(type_)))
        for where, errors in shown_first.items()
        if not _explained_below(where, shown_first)
    ]
    if len(by_path) > MOST_PROBLEMS:
        more = f"has {len(by_path) - MOST_PROBLEMS:,} more problems like these"
        problems.append(Problem(path, more))
    return None, problems


def adapter(type_: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type, created once for each type object."""
    return _adapter(_Same(type_))


class _Same:
    """Equal only for the same object: types that compare equal may have different orders."""

    def __init__(self, type_: Any) -> None:
        self.type = type_

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.type is self.type

    def __hash__(self) -> int:
        return id(self.type)


@lru_cache(maxsize=1000)
def _adapter(same: _Same) -> TypeAdapter[Any]:
    return TypeAdapter(same.type)


def _too_large(checked: Any, path: str) -> Iterator[Problem]:
    """Yield a problem for each integer that neither torch nor NumPy can hold."""
    if isinstance(checked, int) and abs(checked) >= 2**63:
        wrong = f"is {shown(checked)}, but must be an integer of at most 64 bits"
        yield Problem(path, wrong)
    elif isinstance(checked, list | tuple):
        for index, item in enumerate(checked):
            yield from _too_large(item, at(path, index))
    elif isinstance(checked, BaseModel):
        for key in type(checked).model_fields:
            yield from _too_large(getattr(checked, key), at(path, key))


def of_type(type_: type, value: Any, default: Any) -> Any:
    """Return `value` if it has the type, otherwise `default`; the problem is reported elsewhere."""
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
    """Return whether another error lies below `path`, because one union member got further."""
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
        advice = elsewhere(key, getattr(type_, "elsewhere", {}) if len(first["loc"]) == 1 else {})
        return f"unknown key '{key}'{advice or did_you_mean(key, _keys(type_, first['loc']))}"
    return wrong_value(errors, nullable)


def elsewhere(key: str, places: Mapping[str, str]) -> str:
    """Return advice on a key in the wrong section, empty without any.

    Args:
        key: The key.
        places: Paths of keys; a key that is its own path belongs at the top level.

    >>> elsewhere("lr", {"lr": "optimizer.lr"}), elsewhere("seeds", {"seeds": "seeds"})
    (" (did you mean 'optimizer.lr'?)", ' (it stands at the top level)')
    """
    place = places.get(key)
    if place == key:
        return " (it stands at the top level)"
    return f" (did you mean '{place}'?)" if place else ""


def _keys(type_: Any, location: Sequence[int | str]) -> list[str]:
    """Return the known keys beside the unknown one at `location` in a value of type `type_`."""
    if isinstance(type_, type) and issubclass(type_, BaseModel):
        if len(location) == 1:
            return [*type_.model_fields]
        return _keys(type_.model_fields[str(location[0])].annotation, location[1:])
    is_mapping = get_origin(type_) is dict
    return _keys(get_args(type_)[1], location[1:]) if is_mapping else []
