"""Shared wording of error messages: values, and suggestions for misspelt words."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

# The numbers of YAML 1.2's core schema.
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)

_LONGEST_VALUE = 60
_LONGEST_WORD = 60
_MOST_NAMES = 20
_SHORTEST_BEGINNING = 3

# Names of arguments in Avalanche and in papers that differ from ours.
_SYNONYMS = {
    "patterns_per_exp": ("size_per_task", "mem_size"),
    "patterns_per_experience": ("size_per_task", "mem_size"),
    "memory_size": ("mem_size", "size_per_task"),
    "mem_size": ("size_per_task",),
    "storage_policy": ("buffer",),
    "gamma": ("decay", "memory_strength"),
    "margin": ("memory_strength",),
    "eps": ("damping",),
    "learning_rate": ("lr",),
    "n_tasks": ("n_experiences",),
    "num_tasks": ("n_experiences",),
    "hidden": ("hidden_sizes",),
    "hidden_dim": ("hidden_sizes",),
    # Titles of the report's columns.
    "aia": ("average_incremental_accuracy",),
    "learned": ("learning_accuracy",),
}


def shown(value: Any) -> str:
    """Return `value` on one line in YAML's flow style, cut if it is long.

    >>> shown(None), shown(True), shown("a"), shown([1, "b"])
    ('null', 'true', "'a'", '[1, "b"]')
    """
    if isinstance(value, str):
        return cut(repr(value[: _LONGEST_VALUE + 1]))
    return cut(json.dumps(value, default=str))


def count(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "run"), count(2, "run")
    ('1 run', '2 runs')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def is_number(text: str) -> bool:
    """Return whether YAML reads an unquoted `text` as a number."""
    return bool(INTEGER.fullmatch(text) or FLOAT.fullmatch(text))


def cut(text: str, length: int = _LONGEST_VALUE) -> str:
    """Return `text`, with dots in place of everything beyond `length` characters."""
    return text if len(text) <= length else text[: length - 3] + "..."


def alternatives(options: Sequence[str], conjunction: str = "or") -> str:
    """Return options, at least one, as a native speaker lists them.

    >>> alternatives(["a", "b", "c"]), alternatives(["a", "b"], "and"), alternatives(["a"])
    ('a, b or c', 'a and b', 'a')
    """
    return f" {conjunction} ".join(filter(None, (", ".join(options[:-1]), options[-1])))


def closest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that is spelt most like `word`, or None.

    Case and prefixes that end in a colon are ignored, so `replay` finds `avalanche:Replay`, and
    `torch.optim.Adam` finds `Adam`.

    >>> closest("alhpa", ["alpha", "lam"]), closest("sgd", ["SGD"]), closest("x", ["alpha"])
    ('alpha', 'SGD', None)
    """
    if len(word) > _LONGEST_WORD:
        return None
    by_spelling: dict[str, str] = {}
    for name in known:
        for spelling in (name, name.rpartition(":")[2]):
            by_spelling.setdefault(spelling.lower(), name)
    found = difflib.get_close_matches(word.lower(), by_spelling, n=1)
    last = word.rpartition(".")[2].lower()
    return by_spelling[found[0]] if found else by_spelling.get(last)


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return `did you mean 'x'?`, or an empty text if no known word is similar.

    Avalanche's and papers' words are translated to ours. If no word is spelt similarly, words that
    contain `word` as a part or as their initials are suggested, and vice versa.

    >>> suggestion("ewc", ["online_ewc", "ewc_by_spectrum", "mas"])
    "did you mean 'online_ewc' or 'ewc_by_spectrum'?"
    >>> suggestion("si", ["synaptic_intelligence", "mas"])
    "did you mean 'synaptic_intelligence'?"
    >>> suggestion("ewc_lambda", ["lam", "decay"])
    "did you mean 'lam'?"
    """
    found = [*map(repr, _meant(word, known))]
    if not found:
        return ""
    either = f"{', '.join(found[:-1])} or {found[-1]}" if found[1:] else found[0]
    return f"did you mean {either}?"


def _meant(word: str, known: Sequence[str]) -> list[str]:
    if len(word) > _LONGEST_WORD:
        return []
    synonym = next((name for name in _SYNONYMS.get(word.lower(), ()) if name in known), None)
    near = synonym or closest(word, known)
    if near:
        return [near]
    return [name for name in known if _abbreviates(word.lower(), name)] or [
        name for name in known if _begins_part(name, word.lower())
    ]


def _parts(name: str) -> list[str]:
    return [part for part in name.rpartition(":")[2].lower().split("_") if part]


def _abbreviates(word: str, name: str) -> bool:
    parts = _parts(name)
    initials = "".join(part[0] for part in parts)
    return len(parts) > 1 and (word in parts or word == initials)


def _begins_part(name: str, word: str) -> bool:
    """Return whether a part of `word` begins with the whole `name`: `lam` in `ewc_lambda`."""
    return len(name) >= _SHORTEST_BEGINNING and any(
        part.startswith(name.lower()) for part in _parts(word)
    )


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """Return ` (did you mean 'x'?)`, or the known words if none is similar and they are few.

    >>> did_you_mean("alhpa", ["alpha", "lam"]), did_you_mean("seed", ["alpha", "lam"])
    (" (did you mean 'alpha'?)", ' (known: alpha, lam)')
    """
    key, colon, value = str(word).partition(":")
    if colon and key in known:
        return f" (write '{key}: {value}', with a space)"
    advice = suggestion(str(word), known)
    if advice:
        return f" ({advice})"
    return f" (known: {', '.join(known)})" if 0 < len(known) <= _MOST_NAMES else ""
