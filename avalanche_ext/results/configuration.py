"""A run's configuration as one row of a table, and the names of components there."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from avalanche_ext.results.copies import SOURCE
from avalanche_ext.results.files import CONFIG, one_line, read_yaml
from avalanche_ext.results.record import ResultsError

_NOT_CONFIGURED = ("experiment", "method", "seed", "hash", "split", "wandb")
"""Keys of config.yaml that do not describe what a run does."""
_COPY = re.compile(rf"\./{SOURCE}/[0-9a-f]+/(?P<own>[^:]+:.+)")
"""A name in a copy of a user's file."""


def configuration(folder: Path, cell_hash: str) -> dict[str, Any]:
    """Return a run's configuration by paths.

    It is empty, with a warning, if config.yaml cannot be read or belongs to another run.

    Raises:
        ResultsError: If it is malformed.
    """
    try:
        config = read_yaml(folder / CONFIG)
    except (OSError, ValueError) as error:
        return _without(folder, one_line(error))
    if config.get("hash") != cell_hash:
        return _without(folder, "it belongs to another configuration than the result beside it")
    sections = {key: value for key, value in config.items() if key not in _NOT_CONFIGURED}
    try:
        return dict(_paths(sections))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultsError(f"{folder / CONFIG}: malformed ({one_line(error)})") from None


def _without(folder: Path, reason: str) -> dict[str, Any]:
    warnings.warn(f"{folder / CONFIG}: left out of the table: {reason}", stacklevel=2)
    return {}


def own_name(name: str) -> str:
    """Return a component's name as in the YAML, if it names a copy of a user's file.

    >>> own_name("./source/0123abcd/mine.py:Mine"), own_name("drl")
    ('./mine.py:Mine', 'drl')
    """
    copy = _COPY.fullmatch(name)
    return f"./{copy['own']}" if copy else name


def short_name(name: str) -> str:
    """Return the last part of an open name.

    >>> short_name("./mine.py:Mine"), short_name("avalanche:EWCPlugin"), short_name("drl")
    ('Mine', 'EWCPlugin', 'drl')
    """
    return name.rpartition(":")[2]


def by_column(plugins: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield plugins by their names in columns: short names, with NAME-2 for a second one.

    Args:
        plugins: The plugins of a configuration, each with a `name` and `args`.
    """
    counts: dict[str, int] = {}
    for plugin in plugins:
        name = short_name(str(plugin["name"]))
        counts[name] = counts.get(name, 0) + 1
        yield (name if counts[name] == 1 else f"{name}-{counts[name]}"), plugin


def _paths(sections: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        if key == "plugins" and isinstance(value, list):
            yield key, " + ".join(own_name(str(each["name"])) for each in value)
            for name, plugin in by_column(value):
                yield from _flat(f"{key}.{name}", plugin.get("args", {}))
        elif isinstance(value, Mapping) and "name" in value and "args" in value:
            yield key, own_name(str(value["name"]))
            yield from _flat(key, value["args"])
        else:
            yield from _flat(key, value)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{path}.{key}", each)
    else:
        yield path, _cell(value)


def _cell(value: Any) -> Any:
    """Return an argument as a table's cell: lists become text, copies get original names."""
    if isinstance(value, list):
        return json.dumps([_cell(each) if isinstance(each, str) else each for each in value])
    return own_name(value) if isinstance(value, str) else value
