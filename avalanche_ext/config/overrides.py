"""Values from the command line (`key=value`), written into the YAML's document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from typing import Any

from avalanche_ext.config.errors import ConfigError, Problem, at, lies_at
from avalanche_ext.config.reader import DEEPEST, read_text
from avalanche_ext.config.sections import Document
from avalanche_ext.config.validation import elsewhere
from avalanche_ext.words import count, did_you_mean, shown

_MAY_BE_BARE = ("benchmark", "model", "optimizer", "criterion", "scheduler")
"""Sections that may be a name alone."""

_SEARCH = ["tune", "search"]


def apply_overrides(document: dict[str, Any], overrides: Sequence[str]) -> list[Problem]:
    """Write each `path=value` into `document`, before it is validated; later ones win.

    Paths are written as in error messages: `optimizer.lr`, `methods.drl.plugins[1].drl.alpha`.
    Missing sections along a path are created, so a misspelt one is reported as an unknown key.
    Values are read as YAML.

    Returns:
        A problem for each override that cannot be applied.
    """
    spaced = " ".join(overrides)
    joined = re.sub(r"\s+=\s*|=\s+", "=", spaced)
    if joined != spaced and any(not _is_whole(each) for each in overrides):
        wrong = f"must have no spaces around '=': write {joined}"
        return [Problem(shown(spaced), wrong)]
    problems: list[Problem] = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            problems.append(Problem(shown(override), _malformed(override)))
            continue
        try:
            value, found = read_text(text, where=path, root=path)
            problems += found
            write(document, path.strip(), value)
        except ConfigError as error:
            problems += error.problems
    return problems


def _is_whole(override: str) -> bool:
    key, _, value = override.partition("=")
    return bool(key.strip() and value.strip())


def _malformed(override: str) -> str:
    if override.endswith((".yaml", ".yml")):
        return "give one file at a time, then values as key=value"
    if override.endswith(("]", "}")):
        return "must have the form key=value; quote values with spaces: 'model.hidden_sizes=[5, 6]'"
    return "must have the form key=value, such as optimizer.lr=0.1"


def write(document: dict[str, Any], path: str, value: Any) -> str:
    """Write one value into `document`, in place, at a path as in `apply_overrides`.

    Returns:
        The path as problems show it.

    Raises:
        ConfigError: If the path does not fit the document.
    """
    container: Any = document
    rest = path
    keys: list[str | int] = []
    while True:
        if len(keys) == DEEPEST:
            raise ConfigError([Problem(path, f"is nested more than {DEEPEST} levels deep")])
        key, rest = _split(container, keys, rest, path)
        done = reduce(at, keys, "") or "experiment"
        if isinstance(key, int):
            if not isinstance(container, list):
                raise ConfigError([Problem(path, f"'{done}' is not a list")])
            if key >= len(container):
                length = f"'{done}' has {count(len(container), 'item')}, counted from 0"
                raise ConfigError([Problem(path, f"there is no item {key}: {length}")])
        elif not isinstance(container, dict):
            raise ConfigError([Problem(path, f"'{done}' is {shown(container)}, which has no keys")])
        elif container and key not in container and keys and isinstance(keys[-1], int):
            # A mapping in a list is a plugin whose only key is its name.
            raise ConfigError(
                [Problem(path, f"'{done}' has no '{key}'{did_you_mean(key, [*container])}")]
            )
        if not rest:
            container[key] = value
            return reduce(at, [*keys, key], "")
        keys.append(key)
        inner = _opened(container, key, rest)
        if inner is None:
            done = reduce(at, keys, "")
            advice = elsewhere(str(key), Document.elsewhere) if len(keys) == 1 else ""
            if key == "plugins" and len(keys) == 3:
                advice = f": write {done}=[NAME]"
            raise ConfigError([Problem(path, f"there is no '{done}'{advice}")])
        container[key] = container = inner


def _split(
    container: Any, keys: Sequence[str | int], path: str, whole: str
) -> tuple[str | int, str]:
    """Split off the first key or position; a method's name may contain dots."""
    position = re.match(r"\[([0-9]{1,6})\]\.?", path)
    if position:
        return int(position[1]), path[position.end() :]
    quoted = re.match(r'\["([^"]+)"\]\.?', path)
    if quoted:
        return quoted[1], path[quoted.end() :]
    known = [*container] if isinstance(container, dict) else []
    for key in sorted(known, key=len, reverse=True):
        if lies_at(path, key):
            return key, path[len(key) :].removeprefix(".")
    if len(keys) == 3 and ((keys[0], keys[2]) == ("methods", "sweep") or keys[:2] == _SEARCH):
        return path, ""  # The key of a sweep or of a search is itself a path.
    first = re.match(r"[^.\[\]]+", path)
    if not first:
        raise ConfigError([Problem(whole, "not a path such as 'optimizer.lr' or 'plugins[0].drl'")])
    return first[0], path[first.end() :].removeprefix(".")


def _opened(container: Any, key: Any, rest: str) -> Any:
    """Return the value at `key`, as a mapping if it is missing, empty or a bare name (`drl`)."""
    inner = container[key] if isinstance(container, list) else container.get(key)
    if inner is None and not rest.startswith("["):
        return {}
    if isinstance(inner, str) and key in _MAY_BE_BARE and not rest.startswith("["):
        return {"name": inner}
    if isinstance(inner, str) and any(lies_at(rest, each) for each in (inner, at("", inner))):
        return {inner: {}}
    return inner
