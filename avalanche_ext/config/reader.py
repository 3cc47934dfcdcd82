"""A strict YAML reader: YAML 1.2 scalars, no duplicate keys, only finite numbers."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Any

import yaml

from avalanche_ext.config.errors import ConfigError, Problem, at
from avalanche_ext.words import FLOAT, INTEGER

_TEXT = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core schema.

    PyYAML follows YAML 1.1, where `1e-3` and `5.0e4` are text, `010` is eight, `1:30` is ninety and
    `no` is false.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# Tried in this order: every integer also looks like a float.
for _tag, _pattern, _first in (
    ("null", re.compile(r"~|null|Null|NULL|"), [*"~nN", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), [*"tTfF"]),
    ("int", INTEGER, [*"-+0123456789"]),
    ("float", FLOAT, [*"-+.0123456789"]),
    ("merge", re.compile("<<"), ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern.pattern})\Z"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_file(path: Path) -> tuple[Any, list[Problem]]:
    """Read a YAML file into plain values; see `read_text`.

    Raises:
        ConfigError: If the file does not exist, or is not UTF-8 text or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), "no such file" + _sibling(path))]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), error.strerror or str(error))]) from None
    except UnicodeDecodeError as error:
        reason = f"not a text file in UTF-8: byte {error.start} cannot be read"
        raise ConfigError([Problem(str(path), reason)]) from None
    return read_text(text, where=str(path))


def read_text(text: str, where: str, root: str = "") -> tuple[Any, list[Problem]]:
    """Read YAML text into plain values.

    Args:
        text: One YAML document.
        where: Name of the text in errors about its syntax.
        root: Path of the value within the experiment, empty for a whole file.

    Returns:
        The value, and a problem for each duplicate key, each key that is not text (it is read as
        text), and each number that is not finite.

    Raises:
        ConfigError: If the text is not YAML, or an anchor contains itself.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        problems: list[Problem] = []
        _inspect(node, root, problems, ancestors=(), seen=set())
        return loader.construct_document(node), problems
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        reason = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError([Problem(place, f"not valid YAML: {_one_line(reason)}")]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a false tag, `!!int one`.
        raise ConfigError([Problem(where, f"not valid YAML: {_one_line(str(error))}")]) from None


def _inspect(
    node: yaml.Node,
    path: str,
    problems: list[Problem],
    ancestors: tuple[int, ...],
    seen: set[int],
) -> None:
    if id(node) in ancestors:
        raise ConfigError([*problems, Problem(path, "contains itself through an anchor")])
    if id(node) in seen:  # The problems of an alias were reported at its anchor.
        return
    seen.add(id(node))
    ancestors = (*ancestors, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _inspect(item, at(path, index), problems, ancestors, seen)
    elif isinstance(node, yaml.MappingNode):
        first_line: dict[str, int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if key.tag not in (_TEXT, "tag:yaml.org,2002:merge"):
                problems.append(
                    Problem(at(path, name), f"a key must be text: quote it as '{name}'")
                )
                key.tag = _TEXT
            if name in first_line:
                problems.append(
                    Problem(
                        at(path, name),
                        f"duplicate key '{name}' (on lines {first_line[name]} and {line})",
                    )
                )
            first_line.setdefault(name, line)
            _inspect(value, at(path, name), problems, ancestors, seen)
    elif node.tag == "tag:yaml.org,2002:float" and isinstance(node, yaml.ScalarNode):
        special = node.value.lower().lstrip("+-") in (".inf", ".nan")
        if special or not math.isfinite(float(node.value)):
            problems.append(Problem(path, f"is {node.value}, but must be a finite number"))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sibling(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean '{path.parent / near[0]}'?)" if near else ""
