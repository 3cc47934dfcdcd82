"""Names of the classes and functions that a state may mention."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from importlib import import_module
from typing import Any

PACKAGES = frozenset(
    {
        *("avalanche_ext", "avalanche", "torch", "torchvision", "numpy"),
        *("collections", "functools", "contextlib", "enum", "pathlib"),
    }
)
"""The packages whose objects a state may contain, and whose functions it may mention."""

_BUILTINS = frozenset(
    {
        *("object", "bool", "int", "float", "complex", "str", "bytes", "bytearray"),
        *("list", "tuple", "dict", "set", "frozenset", "slice", "range"),
        *("min", "max", "sum", "len", "abs"),
    }
)


_OURS = frozenset({"avalanche_ext", "avalanche"})
_CALLED = frozenset(
    {
        *("builtins:slice", "builtins:range", "builtins:complex", "builtins:bytearray"),
        *("collections:OrderedDict", "collections:defaultdict", "collections:deque"),
        *("collections:Counter", "functools:partial", "numpy:dtype", "torch:Size"),
        *("pathlib:PosixPath", "pathlib:WindowsPath"),
        *("pathlib:PurePosixPath", "pathlib:PureWindowsPath"),
    }
)
"""Classes that restoring calls with values from the state. Others in their packages open files."""


class StateError(ValueError):
    """A state that cannot be restored here; the message says why."""


def name_of(thing: Any) -> str | None:
    """Return the location of a class or function, `module:Name`; None if it cannot be imported."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    # C functions do not always name their module, often torch.
    for place in ((module, name), ("torch", getattr(thing, "__name__", None))):
        if None in place or "<" in str(place[1]):
            continue
        try:
            found = _attribute(import_module(str(place[0])), str(place[1]))
        except (ImportError, AttributeError):
            continue
        if found is thing:
            return f"{place[0]}:{place[1]}"
    return None


def is_known(where: str, packages: Collection[str]) -> bool:
    """Return whether a state may mention `module:Name`, given packages besides `PACKAGES`."""
    module, _, name = where.partition(":")
    if module == "builtins":
        return name in _BUILTINS
    return module.partition(".")[0] in {*PACKAGES, *packages}


def is_called(where: str, thing: object, packages: Collection[str]) -> bool:
    """Return whether restoring a state may call a known class or function with arguments.

    Args:
        where: What `name_of` returns for it.
        thing: The class or function.
        packages: Packages besides `PACKAGES`, all of whose classes may be called.
    """
    package = where.partition(":")[0].partition(".")[0]
    if package in _OURS:
        return True
    if not isinstance(thing, type):
        return False
    is_theirs = package in packages and package not in PACKAGES
    return is_theirs or where in _CALLED or issubclass(thing, Enum | tuple)


def named(where: str, packages: Collection[str]) -> Any:
    """Return the class or function that `name_of` has named.

    Args:
        where: `module:Name`.
        packages: Packages that it may be from, besides `PACKAGES`.

    Raises:
        StateError: If it is from another package, or does not exist.
    """
    if not is_known(where, packages):
        raise StateError(f"it mentions {where}, which is not from a package of this run")
    module, _, name = where.partition(":")
    try:
        return _attribute(import_module(module), name)
    except (ImportError, AttributeError):
        raise StateError(f"it mentions {where}, which does not exist") from None


def _attribute(thing: Any, name: str) -> Any:
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing
