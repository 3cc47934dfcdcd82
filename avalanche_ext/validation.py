"""Arguments of public constructors, checked against their annotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from pydantic import ConfigDict, validate_call

P = ParamSpec("P")
R = TypeVar("R")


def validated(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of `function` against its annotations whenever it is called.

    The same annotations are the schema of YAML files, so each range stands in one place. What is
    wrong is raised as pydantic's ValidationError, a ValueError that names argument and value.
    """
    config = ConfigDict(arbitrary_types_allowed=True, strict=True)
    checked = validate_call(config=config)(function)
    parameters = signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Pydantic names positional arguments by their position only.
        named = parameters.bind(*args, **kwargs).arguments
        return checked(**named)  # type: ignore[call-arg]

    return call
