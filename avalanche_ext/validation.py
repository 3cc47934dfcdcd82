"""A decorator that checks arguments against the annotations of a function."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from pydantic import ConfigDict, validate_call

P = ParamSpec("P")
R = TypeVar("R")


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with its arguments checked against its annotations at every call.

    The YAML's schema is read from the same annotations, so each range stands in one place. A wrong
    argument raises pydantic's ValidationError, a ValueError that names the argument and its value.
    """
    config = ConfigDict(arbitrary_types_allowed=True, strict=True)
    checked = validate_call(config=config)(function)
    parameters = signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Pydantic's errors name a positional argument only by its position.
        named = parameters.bind(*args, **kwargs).arguments
        return checked(**named)  # type: ignore[call-arg]

    return call
