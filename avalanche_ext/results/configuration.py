"""A run's configuration as one row of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from avalanche_ext.results.files import CONFIG, read_yaml

_NOT_CONFIGURED = ("experiment", "method", "seed", "hash", "split", "wandb")
"""What config.yaml says beside what a run does."""


def configuration(folder: Path, cell_hash: str) -> dict[str, Any]:
    """Return a run's configuration by paths; empty if it cannot be read or is of another run."""
    try:
        config = read_yaml(folder / CONFIG)
    except (OSError, ValueError):
        return {}
    if config.get("hash") != cell_hash:
        return {}
    sections = {key: value for key, value in config.items() if key not in _NOT_CONFIGURED}
    return dict(_paths(sections))


def _paths(sections: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        if key == "plugins" and isinstance(value, list):
            yield key, " + ".join(str(each["name"]) for each in value)
            for name, plugin in _numbered(value):
                yield from _flat(f"{key}.{name}", plugin.get("args", {}))
        elif isinstance(value, Mapping) and "name" in value and "args" in value:
            yield key, value["name"]
            yield from _flat(key, value["args"])
        else:
            yield from _flat(key, value)


def _numbered(plugins: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield plugins by their names; a second one of a name is NAME-2."""
    counts: dict[str, int] = {}
    for plugin in plugins:
        name = str(plugin["name"])
        counts[name] = counts.get(name, 0) + 1
        yield (name if counts[name] == 1 else f"{name}-{counts[name]}"), plugin


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{path}.{key}", each)
    else:
        yield path, json.dumps(value) if isinstance(value, list) else value
