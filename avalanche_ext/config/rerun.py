"""Runnable YAMLs among the results: a run's config.yaml, an experiment's experiment.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_KEYS = ("experiment", "method", "seed", "benchmark", "model", "optimizer", "strategy", "plugins")


def is_resolved(document: Mapping[str, Any]) -> bool:
    """Return whether a document is a run's config.yaml, as recorded in its folder."""
    return all(key in document for key in _KEYS)


def as_experiment(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a config.yaml to the YAML of an experiment that repeats its run.

    Malformed components are reported later, as in any YAML.
    """
    method = {
        "strategy": _name(resolved["strategy"]),
        "args": _args(resolved["strategy"]),
        "plugins": [{_name(each): _args(each)} for each in _listed(resolved["plugins"])],
    }
    keys = ("training", "evaluate", "validation", "wandb")
    shared = {key: resolved[key] for key in keys if key in resolved}
    return {
        "name": resolved["experiment"],
        **{key: _section(resolved[key]) for key in ("benchmark", "model", "optimizer")},
        **shared,
        "seeds": [resolved["seed"]],
        "methods": {resolved["method"]: method},
    }


def renamed(document: Any, names: Mapping[str, str]) -> Any:
    """Return a YAML's document with some components renamed.

    Names are replaced in values, in keys, and in the paths of sweeps and searches.

    Args:
        document: The document, or a part of it.
        names: The new names by the old ones.
    """
    if not names:
        return document
    if isinstance(document, Mapping):
        longest_first = sorted(names, key=len, reverse=True)
        pattern = re.compile(rf"({'|'.join(map(re.escape, longest_first))})(?!\w)")
        return {
            pattern.sub(lambda found: names[found[0]], str(key)): renamed(value, names)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [renamed(item, names) for item in document]
    return names.get(document, document) if isinstance(document, str) else document


def _listed(plugins: Any) -> list[Any]:
    return plugins if isinstance(plugins, list) else [plugins]


def _section(component: Any) -> dict[str, Any]:
    return {"name": _name(component), **_args(component)}


def _name(component: Any) -> Any:
    return component.get("name") if isinstance(component, Mapping) else component


def _args(component: Any) -> dict[str, Any]:
    args = component.get("args") if isinstance(component, Mapping) else None
    return dict(args) if isinstance(args, Mapping) else {}
