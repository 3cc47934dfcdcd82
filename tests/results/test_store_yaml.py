"""What is written as YAML is read as the same values, by readers of YAML 1.1 and 1.2."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_ext.config.reader import read_file, read_text
from avalanche_ext.results.files import as_yaml, read_yaml
from avalanche_ext.results.store import CellFiles, write_experiment

LOOKS_LIKE_ANOTHER = [
    *("1e-3", "5.0e4", "+.5", ".inf", "-.INF", ".nan", "0o17", "0x1f", "010", "1_000", "0b11"),
    *("1:30", "2001-01-01", "no", "On", "y", "null", "~", "", "=", "<<", "-", "?", "true", "#a"),
    *(" a", "a ", "a: b", "a #b", "*a", "&a", "!a", "%a", "@a", "`a", "[", "{}", "'", '"'),
    *("a\nb", "\n", "\t", "\x1b[2J", "\x85", "\ufeff", "\u2028", "ä😀", "a" * 300),
]
"""Texts that are something else without quotes, in one of the two YAMLs."""

texts = st.one_of(
    st.sampled_from(LOOKS_LIKE_ANOTHER),
    st.text(string.digits + "+-._eEoOxXabinf: ", max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),  # Readers refuse halves.
)
numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and of the same types."""
    return repr(one) == repr(other)


@given(st.dictionaries(texts, values, max_size=5))
@settings(max_examples=300, deadline=None)
def test_documents_come_back_as_they_were(document: dict[str, Any]) -> None:
    text = as_yaml(document)
    assert same(yaml.safe_load(text), document)
    read, problems = read_text(text, "it")
    assert same(read, document)
    assert not problems


@pytest.mark.parametrize("value", [*LOOKS_LIKE_ANOTHER, 1e-5, 1e300, -0.0, 10**30])
def test_values_of_a_run_are_kept(tmp_path: Path, value: Any) -> None:
    config = {"experiment": "exp", "method": "er", "seed": 3, "hash": "0" * 16, "value": [value]}
    folder = CellFiles(tmp_path, config).begin()
    write_experiment(tmp_path, "name: exp\n", {"value": [value]})
    assert same(read_file(folder / "config.yaml"), (config, []))
    assert same(read_yaml(folder / "config.yaml"), config)
    assert same(read_yaml(tmp_path / "record.yaml"), {"value": [value]})
