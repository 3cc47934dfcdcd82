"""Mutated copies of this repository's experiments: by characters, lines, tokens and values."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").rglob("*.yaml"))

_CHARACTERS = "\t\0\n\r \"'#&*!|>%@`{}[],:?-~<.eE0189_\x07\x85\u2028\ufeff\ud7ffé漢🙂abcxyz"
_TOKENS = [
    *("{", "}", "[", "]", ": ", "- ", ", ", "\n", "  ", "\t", "? ", "---\n", "...\n", "# "),
    *("&a ", "*a", "<<: *a", "<<: 3", "!!str ", "!!int ", "!!bool ", "!!python/object:x ", "!x "),
    *("'", '"', '"\\x"', '"\\ud800"', '"\\UFFFFFFFF"', "|\n", ">\n", "%YAML 1.1\n", "@", "`"),
]
_VALUES = [
    *("null", "~", "true", "no", "''", "[]", "{}", "[[]]", "{a: {}}", ".nan", "-.inf", "1e999"),
    *("-1", "0", "1", "0.5", "1e-3", "0x1F", "0o17", "9" * 30, "9" * 400, "9" * 5000, "1_000"),
    *("'1'", "a", "'a b'", "../x", "a" * 300, "2020-01-01", "<<", "[1, a, null]", "{1: 2}"),
    *("[" * 60 + "]" * 60, "&a [*a]", "*a", "!!bool maybe", "avalanche:Naive", "drl", "cuda:7"),
    *("avalanche:", "avalanche_ext.plugins:DRLPlugin", "./x.py:Y", ":", "a:b:c", "torch.nn:Linear"),
]

_PLAIN = [
    *(None, True, False, 0, 1, -1, 2, 10, 0.5, -0.5, 1e-9, 1e300, 2**31, 2**63, 10**30, 10**400),
    *("", "a", "x.y", "a b", "../x", "1", "null", "é", "\x07", "a" * 300, "auto", "cuda:1", "seed"),
    *([], {}, [1], ["a"], [[]], {"a": 1}, [None], {"name": "mlp"}, {"name": None}, [{}], [1, 1]),
    *("drl", "avalanche:Naive", "avalanche:Nope", "SGD", "mlp", "split_digits", "./x.py:Y"),
    *("torch.nn:Linear", "torchvision:resnet18", "avalanche_ext.plugins:DRLPlugin", "nope:X", ":x"),
]
_NAMES = [
    *("name", "args", "plugins", "strategy", "sweep", "lam", "lr", "seed", "training", "model"),
    *("x", "", "a.b", "a[0]", "name ", "Name", "ewc_lambda", "mem_size", "drl", "<<", "methods"),
    *("optimizer", "benchmark", "n_experiences", "order_seed", "epochs", "iterations", "device"),
]


def mutants(n: int, seed: int) -> Iterator[str]:
    """Yield `n` texts, each an experiment with one to four mutations."""
    rng = random.Random(seed)
    texts = [path.read_text("utf-8") for path in EXPERIMENTS]
    for _ in range(n):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 4)):
            text = rng.choice(_MUTATIONS)(text, rng)
        yield text


def _characters(text: str, rng: random.Random) -> str:
    start = rng.randrange(len(text) + 1)
    end = min(len(text), start + rng.choice([0, 0, 1, 1, 2, 5]))
    inserted = "".join(rng.choices(_CHARACTERS, k=rng.choice([0, 1, 1, 2, 5])))
    return text[:start] + inserted + text[end:]


def _lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    action = rng.choice(["drop", "double", "swap", "indent", "dedent", "move"])
    if action == "drop":
        del lines[at]
    elif action == "double":
        lines.insert(to, lines[at])
    elif action == "swap":
        lines[at], lines[to] = lines[to], lines[at]
    elif action == "move":
        lines.insert(to, lines.pop(at))
    else:
        lines[at] = (
            rng.choice(["  ", " ", "\t"]) + lines[at] if action == "indent" else lines[at][1:]
        )
    return "\n".join(lines)


def _tokens(text: str, rng: random.Random) -> str:
    places = [match.span() for match in re.finditer(r"[{}\[\],:\n#&*]|\w+", text)] or [(0, 0)]
    start, end = rng.choice(places)
    other = text[slice(*rng.choice(places))]
    return text[:start] + rng.choice(["", other, *rng.choices(_TOKENS, k=3)]) + text[end:]


def _values(text: str, rng: random.Random) -> str:
    places = [m.span(1) for m in re.finditer(r"(?::|-|,|\[)[ ]+([^\s,\[\]{}]+)", text)]
    if not places:
        return text
    start, end = rng.choice(places)
    return text[:start] + rng.choice(_VALUES) + text[end:]


def _tree(text: str, rng: random.Random) -> str:
    """Change, drop, rename, double or move values: what comes out is YAML, if `text` is."""
    try:
        document = yaml.safe_load(text)
    except Exception:  # PyYAML's own loader has no error of its own for some texts.
        return text
    for _ in range(rng.randint(1, 3)):
        places = [*islice(_places(document), 1000)]  # A document may contain itself.
        if not places:
            break
        container, key = rng.choice(places)
        other, other_key = rng.choice(places)
        action = rng.choice(["plain", "plain", "drop", "rename", "copy", "wrap"])
        if action == "plain":
            container[key] = rng.choice(_PLAIN)
        elif action == "drop":
            del container[key]
        elif action == "rename" and isinstance(container, dict):
            container[rng.choice([f"{key}x", str(key)[1:], *_NAMES])] = container.pop(key)
        elif action == "copy":
            container[key] = copy.deepcopy(other[other_key])
        elif action == "wrap":
            container[key] = rng.choice([[container[key]], {rng.choice(_NAMES): container[key]}])
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    nodes = [document]
    for node in nodes:
        if isinstance(node, dict | list):
            for key in [*(node if isinstance(node, dict) else range(len(node)))]:
                yield node, key
                nodes.append(node[key])


_MUTATIONS: list[Callable[[str, random.Random], str]] = [
    *(_characters, _lines, _tokens, _values),
    *(_values, _tree, _tree, _tree),
]
