"""The JSON schema of an experiment's YAML, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from avalanche_ext.config.catalogue import ANALYSES, KINDS, OURS, Kind, entries
from avalanche_ext.config.components import settable
from avalanche_ext.config.sections import (
    FOLDER_NAME,
    Document,
    Evaluate,
    MethodSection,
    Published,
    Training,
    Validation,
    Wandb,
)
from avalanche_ext.config.signatures import NO_DEFAULT, read_signature
from avalanche_ext.config.tune import TuneSection

_OPEN = {"type": "string", "pattern": "^(?!avalanche:)[^:]+:[A-Za-z_]"}
"""A name that includes its location: `./mine.py:MyPlugin`, `torchvision:resnet18`."""

_OPEN_SECTION = {"type": "string", "pattern": "^[^:]+:[A-Za-z_]"}
"""As `_OPEN`, plus Avalanche's benchmarks and models, not all of which are listed."""


def experiment_json_schema() -> dict[str, Any]:
    """Return the schema (JSON schema 2020-12) of the YAML that `load_experiment` reads.

    It covers all arguments of our components and of torch's optimizers. Only `load_experiment`
    checks the arguments of Avalanche's strategies and plugins, and of everything from other
    packages and the user's files.
    """
    sections = (
        *(Document, MethodSection, Training, Evaluate, TuneSection, Validation, Wandb, Published),
    )
    _, schemas = models_json_schema([(section, "validation") for section in sections])
    definitions = schemas["$defs"]
    for kind in KINDS:
        definitions[kind] = _PLACES.get(kind, _section)(kind)
    document, method = definitions.pop("Document"), definitions["MethodSection"]
    document["properties"].update(
        benchmark=_reference("benchmark"),
        model=_reference("model"),
        optimizer=_reference("optimizer"),
        training=_reference("Training"),
        analyses={"anyOf": [_analyses(), {"type": "null"}]},
        evaluate={"anyOf": [_reference("Evaluate"), {"type": "null"}]},
        tune={"anyOf": [_reference("TuneSection"), {"type": "null"}]},
        validation={"anyOf": [_reference("Validation"), {"type": "null"}]},
        wandb=_reference("Wandb"),
        published=_reference("Published"),
        methods={
            "type": "object",
            "patternProperties": {
                f"^{FOLDER_NAME}$": {"anyOf": [_reference("MethodSection"), {"type": "null"}]}
            },
            "additionalProperties": False,
            "minProperties": 1,
        },
    )
    definitions["Training"]["properties"].update(
        {key: {"anyOf": [_reference(key), {"type": "null"}]} for key in ("criterion", "scheduler")}
    )
    partial_training = {**definitions["Training"]}
    partial_training.pop("required")
    method["properties"].update(
        strategy=_reference("strategy"),
        plugins={"type": "array", "items": _reference("plugin")},
        training=partial_training,
    )
    method["allOf"] = [
        {
            "if": {"properties": {"strategy": {"const": name}}, "required": ["strategy"]},
            "then": {"properties": {"args": _arguments("strategy", name)}},
        }
        for name in OURS["strategy"]
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document,
        "title": "avalanche-ext experiment",
        "$defs": definitions,
    }


def _section(kind: Kind) -> dict[str, Any]:
    """Return the schema of a bare name, or of a mapping with `name` and arguments."""
    alternatives = []
    for name in entries(kind):
        schema = _arguments(kind, name)
        schema["properties"] = {"name": {"const": name}, **schema["properties"]}
        schema["required"] = ["name", *schema["required"]]
        alternatives.append(schema)
    others = {"type": "object", "properties": {"name": _OPEN_SECTION}, "required": ["name"]}
    return {"anyOf": [{"enum": [*entries(kind)]}, *alternatives, _OPEN_SECTION, others]}


def _plugin(kind: Kind) -> dict[str, Any]:
    """Return the schema of a bare name, or of a mapping from one name to its arguments."""
    return {
        "anyOf": [
            {"enum": [*entries(kind)]},
            {
                "type": "object",
                "properties": {name: _arguments(kind, name) for name in OURS[kind]},
                "patternProperties": {"^[^:]+:": {"type": ["object", "null"]}},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
            _OPEN,
        ]
    }


def _analyses() -> dict[str, Any]:
    """Return the schema of a mapping from names of analyses to their arguments."""
    return {
        "type": "object",
        "properties": {
            name: {"anyOf": [_arguments("plugin", name), {"type": "null"}]} for name in ANALYSES
        },
        "additionalProperties": False,
    }


def _strategy(kind: Kind) -> dict[str, Any]:
    return {"anyOf": [{"enum": [*entries(kind)]}, _OPEN]}


_PLACES = {"plugin": _plugin, "strategy": _strategy}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _arguments(kind: Kind, name: str) -> dict[str, Any]:
    entry = entries(kind)[name]
    signature = read_signature(entry.target)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in settable(kind, entry, signature):
        properties[parameter.name] = TypeAdapter(parameter.type).json_schema()
        if parameter.required:
            required.append(parameter.name)
        elif parameter.default is not NO_DEFAULT:
            properties[parameter.name]["default"] = parameter.default
    return {
        "type": "object",
        "description": ". ".join(filter(None, (signature.summary.rstrip("."), entry.paper))),
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
