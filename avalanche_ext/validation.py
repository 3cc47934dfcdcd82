"""Pydantic's errors in this package's words, and a decorator that checks arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from numbers import Number
from typing import Any, ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call
from pydantic_core import ErrorDetails

from avalanche_ext.words import alternatives, closest, cut, is_number, shown, suggestion

P = ParamSpec("P")
R = TypeVar("R")

_WRONG_TYPE = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "none_required": "null",
    "callable_type": "a function",
}
_IN_PYTHON = {
    "string_type": "a string",
    "tuple_type": "a tuple",
    "dict_type": "a dictionary",
    "none_required": "None",
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
_NUMBERS = ("int_type", "float_type")


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its arguments checked against its annotations at every call.

    The YAML's schema is read from the same annotations, so each range is stated only once. A wrong
    value raises ValueError, an unknown or missing argument TypeError, with a one-sentence message.
    """
    config = ConfigDict(arbitrary_types_allowed=True, strict=True)
    checked = validate_call(config=config)(function)
    parameters = signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Pydantic's errors name a positional argument only by its position.
        try:
            named = parameters.bind(*args, **kwargs).arguments
        except TypeError:
            name = _called(function, call, args)
            raise TypeError(misfit(name, parameters, args, kwargs)) from None
        for key, value in named.items():
            if isinstance(value, Number) and not isinstance(value, int | float):
                named[key] = _plain_number(value)
        try:
            return checked(**named)  # type: ignore[call-arg]
        except ValidationError as error:
            name = _called(function, call, args)
            raise ValueError(f"{name}: {_wrong_arguments(error)}") from None

    return call


def _called(function: Callable[..., Any], call: object, args: Sequence[object]) -> str:
    """Return a function's name, or for a constructor the class that was called."""
    of_class = re.fullmatch(r"(?:.*\.)?(\w+)\.__init__", function.__qualname__)
    if not of_class:
        return function.__name__
    inherits = bool(args) and getattr(type(args[0]), "__init__", None) is call
    return type(args[0]).__name__ if inherits else of_class[1]


def _plain_number(value: object) -> object:
    """Convert a NumPy number to a Python number, as in plugins and YAML files."""
    return value.item() if hasattr(value, "item") else value


def misfit(
    name: str, parameters: Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> str:
    """Return why a call's arguments do not fit a function's parameters.

    Args:
        name: The function's name, or its class's.
        parameters: Its parameters; a first parameter `self` is not mentioned.
        args: The arguments given by position, with `self`.
        kwargs: The arguments given by name.
    """
    by_position = [each for each, p in parameters.parameters.items() if p.kind is not _BY_NAME]
    n_hidden = by_position[:1] == ["self"]
    known = [each for each in parameters.parameters if each != "self"]
    for key in kwargs:
        if key not in known:
            advice = suggestion(key, known) or f"it takes {alternatives(known, 'and')}"
            return f"{name} has no argument '{key}'" + (f": {advice}" if known else "")
    if len(args) > len(by_position):
        n_most, n_given = len(by_position) - n_hidden, len(args) - n_hidden
        if not n_most:
            required = [each for each in known if _is_required(parameters.parameters[each])]
            form = ", ".join(f"{each}=…" for each in required or known[:1])
            return f"{name} takes arguments by name only: write {name}({form})"
        takes = f"takes at most {n_most} arguments by position, but was given {n_given}"
        return f"{name} {takes}: write the others as name=value"
    for key in by_position[: len(args)]:
        if key in kwargs:
            return f"{name} was given '{key}' twice, by position and by name"
    given = {*by_position[: len(args)], *kwargs}
    missing = [
        f"'{each}'"
        for each, parameter in parameters.parameters.items()
        if _is_required(parameter) and each not in given
    ]
    noun = "argument" if len(missing) == 1 else "arguments"
    return f"{name} needs the {noun} {alternatives(missing, 'and')}"


_BY_NAME = Parameter.KEYWORD_ONLY


def _is_required(parameter: Parameter) -> bool:
    return parameter.default is Parameter.empty


def _wrong_arguments(error: ValidationError) -> str:
    """Return the error of each argument."""
    by_argument: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_argument.setdefault(str(details["loc"][0]), []).append(details)
    return "; ".join(
        f"{_place(name, errors)} {wrong_value(errors, python=True)}"
        for name, errors in by_argument.items()
    )


def _place(name: str, errors: list[ErrorDetails]) -> str:
    """Return `name`, or `name[2]` if the errors are about one item."""
    deepest = meant(errors)[0]["loc"][1:]
    return name + "".join(f"[{key}]" for key in deepest if isinstance(key, int))


def meant(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors of the intended member of a union, the one that fits the value's type."""
    return [details for details in errors if _is_about_range(details)] or errors


def _is_about_range(details: ErrorDetails) -> bool:
    others = ("bool_type", "literal_error", "is_instance_of")
    return details["type"] not in (*_WRONG_TYPE, *others)


def wrong_value(errors: list[ErrorDetails], nullable: bool = False, python: bool = False) -> str:
    """Return `is 0, but must be greater than 0`.

    Args:
        errors: Pydantic's errors about one value, at least one; of a union, those of each member.
        nullable: Whether the value may also be left empty, although no error says so.
        python: Whether the value was written in Python, not in YAML.
    """
    errors = meant(errors)
    value = errors[0]["input"]
    expected = [word for details in errors for word in _expected(details, python)]
    if nullable:
        expected.append("None" if python else "null")
    if "a number" in expected:
        expected = [word for word in expected if word != "an integer"]
    wanted = alternatives([*dict.fromkeys(expected)])
    must = f"be {wanted}" if wanted != "at least 1 long" else "have at least one item"
    return f"is {_written(value) if python else shown(value)}, but must {must}" + _hint(
        value, errors, python
    )


def _expected(details: ErrorDetails, python: bool) -> list[str]:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "bool_type":
        return ["True", "False"] if python else ["true", "false"]
    if python and kind in _IN_PYTHON:
        return [_IN_PYTHON[kind]]
    if kind in _WRONG_TYPE:
        return [_WRONG_TYPE[kind]]
    if kind == "literal_error":
        return _options(details)
    if kind in _OUT_OF_RANGE:
        limits = {key: _plain(limit) for key, limit in context.items()}
        return [_OUT_OF_RANGE[kind].format(**limits)]
    if kind == "is_instance_of":
        return [_with_article(_class_wanted(details))]
    message = details["msg"]
    return [message.removeprefix("Input should be ").removeprefix("Value should be ")]


def _class_wanted(details: ErrorDetails) -> str:
    is_class = details["type"] == "is_instance_of"
    return str(details["ctx"]["class"]).rpartition(".")[2] if is_class else ""


def _options(details: ErrorDetails) -> list[str]:
    """Return the members of a Literal as they are written."""
    words = re.findall(r"'[^']*'|[^\s,']+", details["ctx"]["expected"])
    return [word for word in words if word != "or"]


def _plain(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _hint(value: Any, errors: list[ErrorDetails], python: bool) -> str:
    options = [
        option.strip("'")
        for details in errors
        if details["type"] == "literal_error"
        for option in _options(details)
    ]
    is_number_wanted = any(details["type"] in _NUMBERS for details in errors)
    if isinstance(value, str):
        if python and any(_class_wanted(details) == "Path" for details in errors):
            return f" (write Path({cut(repr(value))}))"
        if is_number_wanted and is_number(value):
            return " (remove the quotes)"
        near = closest(value, options)
        return f" (did you mean '{near}'?)" if near else ""
    if python:
        return _python_hint(value, errors)
    return " (put it in quotes)" if shown(value) in options else ""


def _python_hint(value: Any, errors: list[ErrorDetails]) -> str:
    wanted = {details["type"] for details in errors}
    if isinstance(value, type):
        return f" (create one: {value.__name__}(…))" if "is_instance_of" in wanted else ""
    is_wrapped = hasattr(value, "item") and getattr(value, "ndim", 1) == 0
    if is_wrapped and wanted & {*_NUMBERS}:
        return " (convert it with .item())"
    is_sequence = isinstance(value, tuple | range) or hasattr(value, "tolist")
    return " (convert it with list(…))" if is_sequence and "list_type" in wanted else ""


def _written(value: Any) -> str:
    """Return `value` on one line as in Python, or its class if that is too long."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | list | tuple | dict):
        return cut(" ".join(repr(value).split()))
    text = repr(value)
    if text.startswith("<") or "\n" in text or cut(text) != text:
        return _with_article(type(value).__name__)
    return text


def _with_article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'AEIOUaeiou' else 'a'} {noun}"
