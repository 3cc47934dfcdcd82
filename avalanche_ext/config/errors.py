"""Problems with a configuration, and the wording they share."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST_VALUE = 60
_MOST_NAMES = 20


@dataclass(frozen=True)
class Problem:
    """One problem: its path (`methods.drl.plugins[1].drl.alhpa`), and what is wrong and right."""

    path: str
    message: str

    def __str__(self) -> str:
        line = f"{self.path}: {self.message}"
        # Messages quote keys, which may contain line ends and control characters.
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


class ConfigError(Exception):
    """The configuration cannot be run; the text has one line for each of `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def at(path: str, key: str | int) -> str:
    """Return the path of `key` below `path`: `a.b` for a key, `a[0]` for a position.

    >>> at("plugins", 1), at("plugins[1]", "drl"), at("", "name")
    ('plugins[1]', 'plugins[1].drl', 'name')
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def lies_at(path: str, start: str) -> bool:
    """Return whether `path` is `start` or lies below it.

    >>> lies_at("a.b[0]", "a.b"), lies_at("a.b", "a.b"), lies_at("a.bc", "a.b")
    (True, True, False)
    """
    return path == start or path.startswith((f"{start}.", f"{start}["))


def shown(value: Any) -> str:
    """Return `value` on one line in YAML's flow style, cut if it is long.

    >>> shown(None), shown(True), shown("a"), shown([1, "b"])
    ('null', 'true', "'a'", '[1, "b"]')
    """
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that is spelt most like `word`, or None.

    Case and prefixes that end in a colon are ignored, so `replay` finds `avalanche:Replay`.

    >>> closest("alhpa", ["alpha", "lam"]), closest("sgd", ["SGD"]), closest("x", ["alpha"])
    ('alpha', 'SGD', None)
    """
    by_spelling: dict[str, str] = {}
    for name in known:
        for spelling in (name, name.rpartition(":")[2]):
            by_spelling.setdefault(spelling.lower(), name)
    found = difflib.get_close_matches(word.lower(), by_spelling, n=1)
    return by_spelling[found[0]] if found else None


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return `did you mean 'x'?`, or an empty text if no known word is similar.

    If no known word is spelt similarly, words with `word` as a part or as their initials count.

    >>> suggestion("ewc", ["online_ewc", "ewc_by_spectrum", "mas"])
    "did you mean 'online_ewc' or 'ewc_by_spectrum'?"
    >>> suggestion("si", ["synaptic_intelligence", "mas"])
    "did you mean 'synaptic_intelligence'?"
    """
    near = closest(word, known)
    found = [near] if near else [name for name in known if _abbreviates(word.lower(), name)]
    return f"did you mean {' or '.join(map(repr, found))}?" if found else ""


def _abbreviates(word: str, name: str) -> bool:
    parts = [part for part in name.rpartition(":")[2].lower().split("_") if part]
    initials = "".join(part[0] for part in parts)
    return len(parts) > 1 and (word in parts or word == initials)


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """Return ` (did you mean 'x'?)`, or the known words if none is similar and they are few.

    >>> did_you_mean("alhpa", ["alpha", "lam"]), did_you_mean("seed", ["alpha", "lam"])
    (" (did you mean 'alpha'?)", ' (known: alpha, lam)')
    """
    advice = suggestion(str(word), known)
    if advice:
        return f" ({advice})"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= _MOST_NAMES else ""
