from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from avalanche_ext.config import catalogue, experiment_json_schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(experiment_json_schema()))
    return plain


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in the schema."""
    if isinstance(schema, dict):
        yield schema
    values = schema.values() if isinstance(schema, dict) else schema
    for value in values if isinstance(schema, dict | list) else ():
        yield from parts(value)


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    references = {part["$ref"] for part in parts(schema) if isinstance(part.get("$ref"), str)}
    assert references
    assert {reference.removeprefix("#/$defs/") for reference in references} <= {*schema["$defs"]}


def test_keys_are_those_of_an_experiment_and_no_others(schema: dict[str, Any]) -> None:
    assert schema["additionalProperties"] is False
    assert {*schema["required"]} == {
        "name",
        "benchmark",
        "model",
        "optimizer",
        "training",
        "seeds",
        "methods",
    }
    assert {*schema["properties"]} - {*schema["required"]} == {
        "baseline",
        "claims",
        "analyses",
        "tune",
        "validation",
        "evaluate",
        "wandb",
        "published",
    }


def test_an_analysis_has_the_arguments_of_the_plugin_that_it_adds(schema: dict[str, Any]) -> None:
    analyses, null = schema["properties"]["analyses"]["anyOf"]
    assert null == {"type": "null"}
    assert not analyses["additionalProperties"]
    spectrum, null = analyses["properties"]["spectrum_analysis"]["anyOf"]
    assert null == {"type": "null"}
    plugins = schema["$defs"]["plugin"]["anyOf"][1]["properties"]
    assert spectrum == plugins["spectrum_analysis"]
    rank = {"type": "integer", "exclusiveMinimum": 0, "default": 50}
    assert spectrum["properties"]["rank"] == rank
    assert spectrum["properties"]["kind"]["enum"] == ["true", "sampled", "empirical"]
    assert spectrum["required"] == []


def test_a_claim_compares_two_methods(schema: dict[str, Any]) -> None:
    claims, null = schema["properties"]["claims"]["anyOf"]
    assert null == {"type": "null"}
    assert (claims["type"], claims["items"]["type"]) == ("array", "string")
    pattern = claims["items"]["pattern"]
    assert re.search(pattern, "er_gmed>er-0.5")
    assert re.search(pattern, "er_gmed > er in BWT")
    assert not re.search(pattern, "er_gmed > er > naive")
    assert not re.search(pattern, "er_gmed > er in forgetting")


def test_arguments_have_their_type_range_and_default(schema: dict[str, Any]) -> None:
    plugins = schema["$defs"]["plugin"]["anyOf"][1]["properties"]
    assert plugins["drl"]["properties"]["alpha"] == {"type": "number", "minimum": 0, "default": 2.0}
    assert plugins["drl"]["additionalProperties"] is False
    assert "seed" not in plugins["balanced_replay"]["properties"]


def test_required_arguments_are_required(schema: dict[str, Any]) -> None:
    (mlp,) = (
        alternative
        for alternative in schema["$defs"]["model"]["anyOf"]
        if alternative.get("properties", {}).get("name") == {"const": "mlp"}
    )
    assert mlp["required"] == ["name", "hidden_sizes"]


def test_every_name_is_offered(schema: dict[str, Any]) -> None:
    for kind in catalogue.KINDS:
        definition = schema["$defs"][kind]
        offered = definition["enum"] if "enum" in definition else definition["anyOf"][0]["enum"]
        assert offered == [*catalogue.entries(kind)]


def test_a_strategy_of_ours_decides_what_args_may_hold(schema: dict[str, Any]) -> None:
    conditions = {
        branch["if"]["properties"]["strategy"]["const"]: branch["then"]["properties"]["args"]
        for branch in schema["$defs"]["MethodSection"]["allOf"]
    }
    assert {*conditions} == {*catalogue.OURS["strategy"]}
    assert conditions["BER"]["properties"]["mem_size"]["exclusiveMinimum"] == 0


def test_methods_are_sections_under_names_of_folders(schema: dict[str, Any]) -> None:
    methods = schema["properties"]["methods"]
    ((pattern, section),) = methods["patternProperties"].items()
    assert re.fullmatch(pattern, "er-1.5")
    assert not re.fullmatch(pattern, "../er")
    assert {"$ref": "#/$defs/MethodSection"} in section["anyOf"]
    assert methods["additionalProperties"] is False


def test_a_method_need_not_repeat_the_batch_size(schema: dict[str, Any]) -> None:
    method = schema["$defs"]["MethodSection"]["properties"]
    assert "required" not in method["training"]
    assert schema["$defs"]["Training"]["required"] == ["batch_size"]


def test_a_sweep_has_one_path_and_a_list_of_values_or_lists(schema: dict[str, Any]) -> None:
    sweep, null = schema["$defs"]["MethodSection"]["properties"]["sweep"]["anyOf"]
    assert null == {"type": "null"}
    assert (sweep["minProperties"], sweep["maxProperties"]) == (1, 1)
    values = sweep["additionalProperties"]
    assert (values["type"], values["minItems"]) == ("array", 1)
    *plain, listed = values["items"]["anyOf"]
    assert [each["type"] for each in plain] == ["integer", "number", "boolean", "string"]
    assert listed == {"type": "array", "items": {"anyOf": plain}}


def test_published_correlations_lie_between_minus_one_and_one(schema: dict[str, Any]) -> None:
    correlations = schema["$defs"]["PublishedCorrelations"]
    assert [*correlations["properties"]] == ["ACC", "forgetting", "intransigence"]
    number, null = correlations["properties"]["ACC"]["anyOf"]
    assert number == {"type": "number", "minimum": -1, "maximum": 1}
    assert null == {"type": "null"}
    assert correlations["additionalProperties"] is False
