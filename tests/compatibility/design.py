"""Which cells the matrix has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations, product

from avalanche_ext.config.catalogue import OURS
from avalanche_ext.config.traits import read_traits
from avalanche_ext.traits import Phase
from tests.compatibility.cells import NAIVE, Cell
from tests.compatibility.parts import MODELS, made
from tests.compatibility.streams import STREAMS

BOTH = ("split", "permuted")
"""The streams on which every plugin meets every strategy."""


def plugins() -> list[str]:
    """Our plugins, with every choice of an argument on which their traits depend, and others."""
    return [*made("plugin", ours_only=True, small=True)]


def strategies() -> list[str]:
    """Avalanche's strategies and ours."""
    return [*made("strategy", small=True)]


def with_strategies() -> list[Cell]:
    """Every plugin in every strategy, on two streams, with both models; with their defaults."""
    names = [name for name in strategies() if "(" not in name]
    return [Cell((p,), *rest) for p, *rest in product(OURS["plugin"], names, BOTH, MODELS)]


def with_streams() -> list[Cell]:
    """Every plugin on every kind of stream in Naive, with both models."""
    return [Cell((p,), NAIVE, *rest) for p, *rest in product(plugins(), STREAMS, MODELS)]


def with_supsup() -> list[Cell]:
    """Every plugin, with every such choice, in Naive, and in every strategy, with `SupSup`."""
    names = [name for name in strategies() if "(" not in name]
    cells = [(p, name) for p, name in product(OURS["plugin"], names)]
    cells += [(p, NAIVE) for p in plugins() if p not in OURS["plugin"]]
    return [Cell((p,), name, "multi-head", "supsup") for p, name in cells]


def pairs() -> list[Cell]:
    """All pairs of our plugins in both orders, with each model in turn."""
    ordered = permutations(OURS["plugin"], 2)
    return [Cell(pair, model=MODELS[i % 2]) for i, pair in enumerate(ordered)]


def the_rest() -> list[Cell]:
    """A covering design: any two choices of plugin, strategy, stream and model meet in a cell.

    What the other parts of the matrix have is left out.
    """
    streams = [name for name in STREAMS if name not in BOTH]
    others = [name for name in strategies() if name != NAIVE]
    rows = covering([plugins(), others, streams, list(MODELS)])
    return [Cell((plugin,), *rest) for plugin, *rest in rows]


def covering(factors: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield rows with one value of each factor, until any two values have met; a greedy choice."""
    columns = [*combinations(range(len(factors)), 2)]
    left = {(i, j): {*product(factors[i], factors[j])} for i, j in columns}
    while any(left.values()):
        start = max(columns, key=lambda column: len(left[column]))
        row = dict(zip(start, min(left[start]), strict=True))
        for k in sorted(set(range(len(factors))) - row.keys()):
            # The value that meets most of the others for the first time.
            row[k] = max(factors[k], key=lambda value: _n_new(left, {**row, k: value}))
        for i, j in columns:
            left[i, j].discard((row[i], row[j]))
        yield tuple(row[k] for k in range(len(factors)))


def _n_new(left: dict[tuple[int, int], set[tuple[str, str]]], row: dict[int, str]) -> int:
    return sum((row[i], row[j]) in left[i, j] for i, j in left if i in row and j in row)


def zero_strength() -> list[Cell]:
    """Every penalty and pull, with strength 0, on every kind of stream."""
    acting = (Phase.PENALTY, Phase.PULL)
    parts = made("plugin", ours_only=True, small=True)
    have = {n for n, p in parts.items() if read_traits(p.target, p.args)[0].phase in acting}
    return [cell for cell in with_streams() if cell.plugins[0] in have]
