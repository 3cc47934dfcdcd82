"""Problems with a configuration, and their shared wording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from avalanche_ext.words import cut

MOST_PROBLEMS = 100
"""Maximum number of problems that are searched and shown: for one value, and for a file."""

_LONGEST_PATH = 500
_LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Problem:
    """One problem: its path (`methods.drl.plugins[1].drl.alhpa`), the error and the remedy."""

    path: str
    message: str

    def __str__(self) -> str:
        line = f"{cut(self.path, _LONGEST_PATH)}: {cut(self.message, _LONGEST_MESSAGE)}"
        # Messages quote keys, which may contain line ends and control characters.
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


class ConfigError(Exception):
    """The configuration cannot be run; the text has a line for each of the first `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        n_more = len(self.problems) - len(lines)
        return "\n".join([*lines, f"and {n_more:,} more problems"] if n_more else lines)


def at(path: str, key: str | int) -> str:
    """Return the path of `key` below `path`: `a.b` for a key, `a[0]` for a position.

    A key that names a class by its file or package is quoted, since it contains dots.

    >>> at("plugins", 1), at("plugins[1]", "drl"), at("", "name")
    ('plugins[1]', 'plugins[1].drl', 'name')
    >>> at("plugins[0]", "./mine.py:MyPlugin")
    'plugins[0]["./mine.py:MyPlugin"]'
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    if _is_dotted_name(key):
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key


def _is_dotted_name(key: str) -> bool:
    """Return whether a key is a name like `package.module:Name` or `./file.py:Name`, not a path."""
    place, _, name = key.rpartition(":")
    has_dots = any(char in place for char in "./\\")
    return has_dots and name.isidentifier() and not any(char in key for char in '[]"')


def lies_at(path: str, start: str) -> bool:
    """Return whether `path` is `start` or lies below it.

    >>> lies_at("a.b[0]", "a.b"), lies_at("a.b", "a.b"), lies_at("a.bc", "a.b")
    (True, True, False)
    """
    return path == start or path.startswith((f"{start}.", f"{start}["))
