from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.config import ConfigError
from avalanche_ext.config.reader import read_file, read_text
from avalanche_ext.words import is_number


def value_of(text: str) -> Any:
    value, problems = read_text(text, where="test")
    assert problems == []
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5.0e4", 50000.0),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-2.", -2.0),
        ("10", 10),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("nan", "nan"),
        ("1e", "1e"),
        ("'1e-3'", "1e-3"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = value_of(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_read_back_from_what_python_writes(number: float) -> None:
    read = value_of(repr(number))
    assert isinstance(read, float)
    assert read == number


@given(st.integers())
def test_every_integer_is_read_back(number: int) -> None:
    assert value_of(str(number)) == number


@pytest.mark.parametrize(("text", "expected"), [("1e-3", True), ("10", True), ("1_000", False)])
def test_is_number_agrees_with_what_is_read(text: str, expected: bool) -> None:
    assert is_number(text) is expected
    assert isinstance(value_of(text), int | float) is expected


def test_merge_keys_take_what_an_anchor_has_and_may_replace_it() -> None:
    document = value_of("a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\n")
    assert document["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: duplicate key 'a' (on lines 1 and 3)"),
        (
            "m:\n  - {x: 1}\n  - x: 1\n    x: 2\n",
            "m[1].x: duplicate key 'x' (on lines 3 and 4)",
        ),
        ("a:\n  b: .nan\n", "a.b: is .nan, but must be a finite number"),
        ("a: [1, -.inf]\n", "a[1]: is -.inf, but must be a finite number"),
        ("a: 1e999\n", "a: is 1e999, but must be a finite number"),
        ("a: {1: x}\n", "a.1: a key must be text: quote it as '1'"),
        ("a: &once {x: .inf}\nb: *once\n", "a.x: is .inf, but must be a finite number"),
    ],
)
def test_what_is_wrong_beyond_syntax_is_said_with_its_path(text: str, line: str) -> None:
    _, problems = read_text(text, where="test")
    assert [str(problem) for problem in problems] == [line]


def test_all_such_problems_are_found_at_once() -> None:
    _, problems = read_text("a: .nan\na: 1\nb: {c: 1, c: 2}\n", where="test")
    assert [problem.path for problem in problems] == ["a", "a", "b.c"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1, 2\nb: 3\n", "file.yaml:2:2: not valid YAML:"),
        ("a: b: c\n", "file.yaml:1:5: not valid YAML:"),
        ("a: !!python/object:os.system {}\n", "file.yaml:1:4: not valid YAML:"),
        ("a: !!int one\n", "file.yaml:1:4: not valid YAML:"),
        ("a: !!float one\n", "file.yaml:1:4: not valid YAML:"),
        ("a: \x07\n", "file.yaml:1: not valid YAML:"),
        ("--- 1\n--- 2\n", "file.yaml:2:1: not valid YAML:"),
        ("a: &self [*self]\n", "a[0]: contains itself through an anchor"),
        ("? [x]\n: 1\n? {y: 1}\n: 2\n", "file.yaml:1:3: not valid YAML:"),
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line(text: str, start: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_text(text, where="file.yaml")
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path / "quikstart.yaml")
    expected = f"no such file (did you mean '{tmp_path / 'quickstart.yaml'}'?)"
    assert str(caught.value) == f"{tmp_path / 'quikstart.yaml'}: {expected}"


@pytest.mark.parametrize("content", [b"a: \xff\n", None])
def test_a_folder_and_bytes_that_are_no_text_are_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "bytes.yaml"
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert [problem.path for problem in caught.value.problems] == [str(path)]


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_file(path) == ({"a": 1, "b": 2}, [])
