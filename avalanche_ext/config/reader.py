"""A strict YAML reader: YAML 1.2 scalars, no duplicate keys, finite numbers, bounded size."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from avalanche_ext.config.errors import ConfigError, Problem, at
from avalanche_ext.results.files import reason_of
from avalanche_ext.words import FLOAT, INTEGER, cut

LONGEST = 100_000
"""Maximum number of characters of a file or value."""
MOST_VALUES = 10_000
"""Maximum number of values in a document, keys included; aliases count their anchor's values."""
DEEPEST = 50
"""Maximum number of nested levels of lists and mappings."""

_MOST_DIGITS = 250  # So that every integer is also a float.
_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_TAG}str"
_MERGE = f"{_TAG}merge"
_SCALARS = {
    "null": (re.compile(r"~|null|Null|NULL|"), [*"~nN", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), [*"tTfF"]),
    "int": (INTEGER, [*"-+0123456789"]),
    "float": (FLOAT, [*"-+.0123456789"]),
    "merge": (re.compile("<<"), ["<"]),
}
"""Patterns of unquoted scalars, and the characters that they can begin with, by tag."""

_IN_PLAIN_WORDS = {
    r"'\t'": "found a tab: indent with spaces",
    "<stream end>": "a bracket or brace is left open",
    "end of stream": "a quote is left open",
    "mapping values are not allowed here": (
        "found ': ' where no key is allowed: check the indentation, or quote the text"
    ),
    "could not find expected ':'": "found a key without ':'",
    "expected <block end>": (
        "this does not continue the lines above: check indentation and quotes"
    ),
    "expected ',' or ']'": "in [ ], a ',' or the closing ']' is missing, or a text needs quotes",
    "expected ',' or '}'": "in { }, a ',' or the closing '}' is missing, or a text needs quotes",
    "for merging": "'<<' must be followed by an alias of a mapping, or a list of them",
}
"""Explanations of PyYAML's messages, by a part of them; the first match counts."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core schema.

    PyYAML follows YAML 1.1, where `1e-3` and `5.0e4` are text, `010` is eight, `1:30` is ninety and
    `no` is false.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = parent.start_mark if parent else None
            raise ComposerError(None, None, f"nested more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# Tried in this order: every integer also looks like a float.
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"{_TAG}{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), _first
    )
_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.add_constructor(f"{_TAG}float", _float)


def read_file(path: Path) -> tuple[Any, list[Problem]]:
    """Read a YAML file into plain values; see `read_text`.

    Raises:
        ConfigError: If the file does not exist, is too long, or is not UTF-8 text or not YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(4 * LONGEST + 1)  # UTF-8 has at most 4 bytes a character.
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), "no such file" + _sibling(path))]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(str(path), "is a folder, but must be a YAML file")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), reason_of(error))]) from None
    except UnicodeDecodeError as error:
        reason = f"not a text file in UTF-8: byte {error.start} cannot be read"
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            reason = "is text in UTF-16, but must be in UTF-8: save it as UTF-8"
        elif len(content) > 4 * LONGEST:
            reason = _TOO_LONG
        raise ConfigError([Problem(str(path), reason)]) from None
    except ValueError as error:  # A null character in the path.
        raise ConfigError([Problem(str(path), f"not a path: {error}")]) from None
    return read_text(text, where=str(path))


_TOO_LONG = f"is longer than {LONGEST:,} characters"


def read_text(text: str, where: str, root: str = "") -> tuple[Any, list[Problem]]:
    """Read YAML text into plain values.

    Args:
        text: One YAML document.
        where: Name of the text in errors about its syntax.
        root: Path of the value within the experiment, empty for a whole file.

    Returns:
        The value, and a problem for each duplicate key, each key that is not text (it is read as
        text), and each number that is not finite or has too many digits.

    Raises:
        ConfigError: If the text is not YAML, an anchor contains itself, a tag has no meaning here,
            or the text has more characters, values or levels than `LONGEST`, `MOST_VALUES` or
            `DEEPEST`.
    """
    if len(text) > LONGEST:
        raise ConfigError([Problem(where, _TOO_LONG)])
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, []
        inspector = _Inspector(where)
        inspector.visit(node, root)
        return loader.construct_document(node), inspector.problems
    except yaml.MarkedYAMLError as error:
        reason = " ".join(filter(None, (error.context, error.problem)))
        plain = next((words for part, words in _IN_PLAIN_WORDS.items() if part in reason), reason)
        raise _not_yaml(where, error.problem_mark, plain) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character {chr(error.character)!r} is not allowed"
        raise ConfigError([Problem(f"{where}:{line}", f"not valid YAML: {reason}")]) from None
    except (OverflowError, ValueError):
        reason = "a text in double quotes has an unknown escape"
        raise ConfigError([Problem(where, f"not valid YAML: {reason}")]) from None


def _not_yaml(where: str, mark: yaml.Mark | None, reason: str) -> ConfigError:
    place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
    return ConfigError([Problem(place, f"not valid YAML: {' '.join(reason.split())}")])


class _Inspector:
    """Finds errors in nodes beyond syntax, before values are constructed from them.

    Args:
        where: Name of the text in errors about its syntax.
    """

    def __init__(self, where: str) -> None:
        self.problems: list[Problem] = []
        self._where = where
        self._open: set[int] = set()
        self._extents: dict[int, tuple[int, int]] = {}
        """Number of values and of levels in each visited node."""

    def visit(self, node: yaml.Node, path: str) -> tuple[int, int]:
        """Inspect a node and its content, and return the numbers of its values and levels."""
        if id(node) in self._open:
            wrong = "contains itself through an anchor"
            raise ConfigError([*self.problems, Problem(path, wrong)])
        if id(node) not in self._extents:  # Already reported at the alias's anchor.
            self._open.add(id(node))
            inner = self._visit_inside(node, path)
            self._open.remove(id(node))
            n_values = 1 + sum(n for n, _ in inner)
            n_levels = 1 + max((n for _, n in inner), default=0)
            if n_values > MOST_VALUES:
                wrong = f"has more than {MOST_VALUES:,} values"
                raise ConfigError([Problem(path or self._where, wrong)])
            if n_levels > DEEPEST:
                wrong = f"is nested more than {DEEPEST} levels deep"
                raise ConfigError([Problem(path or self._where, wrong)])
            self._extents[id(node)] = n_values, n_levels
        return self._extents[id(node)]

    def _visit_inside(self, node: yaml.Node, path: str) -> list[tuple[int, int]]:
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.visit(item, at(path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return self._visit_mapping(node, path)
        assert isinstance(node, yaml.ScalarNode)
        self._visit_scalar(node, path)
        return []

    def _visit_mapping(self, node: yaml.MappingNode, path: str) -> list[tuple[int, int]]:
        first_line: dict[str, int] = {}
        extents = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                wrong = "a key must be text, not a list or a mapping"
                raise _not_yaml(self._where, key.start_mark, wrong)
            self._check_text(key)
            name, line = key.value, key.start_mark.line + 1
            where = at(path, name)
            if key.tag not in (_TEXT, _MERGE):
                self._add(where, f"a key must be text: quote it as '{name}'")
                key.tag = _TEXT
            if name in first_line:
                lines = f"(on lines {first_line[name]} and {line})"
                self._add(where, f"duplicate key '{name}' {lines}")
            first_line.setdefault(name, line)
            extents += [(1, 1), self.visit(value, where)]
        return extents

    def _visit_scalar(self, node: yaml.ScalarNode, path: str) -> None:
        text = node.value
        self._check_text(node)
        if node.tag == _MERGE:  # It merges only as a key.
            node.tag = _TEXT
        if node.tag == _TEXT:
            return
        self._check_tag(node, *_SCALARS)
        kind = node.tag.removeprefix(_TAG)
        if not _SCALARS[kind][0].fullmatch(text):
            wrong = f"{cut(repr(text))} does not fit the tag !!{kind}"
            raise _not_yaml(self._where, node.start_mark, wrong)
        if kind == "int" and len(text) > _MOST_DIGITS:
            digits = f"an integer of more than {_MOST_DIGITS} digits"
            self._add(path, f"is {cut(text)}, but must not be {digits}")
            node.tag = _TEXT
        if kind == "float":
            special = text.lower().lstrip("+-") in (".inf", ".nan")
            if special or not math.isfinite(float(text)):
                self._add(path, f"is {cut(text)}, but must be a finite number")

    def _check_text(self, node: yaml.ScalarNode) -> None:
        if not node.value.isascii() and any("\ud800" <= char <= "\udfff" for char in node.value):
            wrong = "the text has a surrogate, which is half a character"
            raise _not_yaml(self._where, node.start_mark, wrong)

    def _check_tag(self, node: yaml.Node, *known: str) -> None:
        if node.tag not in [f"{_TAG}{name}" for name in known]:
            tag = "!!" + node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else node.tag
            wrong = f"the tag {cut(tag)} has no meaning here: leave it out"
            raise _not_yaml(self._where, node.start_mark, wrong)

    def _add(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))


def _sibling(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean '{path.parent / near[0]}'?)" if near else ""
