"""The catalogue as text, for `avalanche-ext list`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from avalanche_ext.config.annotations import describe
from avalanche_ext.config.builtins import SCENARIOS, BuiltIn, State, built_in
from avalanche_ext.config.catalogue import OURS, Entry, Kind, entries
from avalanche_ext.config.components import find_open, may_be_found, settable, signature_of
from avalanche_ext.config.errors import ConfigError, Problem
from avalanche_ext.config.signatures import NO_DEFAULT, Parameter
from avalanche_ext.words import did_you_mean, shown

_WIDTH = 100
_HEADINGS: dict[Kind, str] = {
    "plugin": "Plugins (methods.<name>.plugins)",
    "strategy": "Strategies (methods.<name>.strategy, with their arguments in args)",
    "benchmark": "Benchmarks (benchmark)",
    "model": "Models (model)",
    "optimizer": "Optimizers (optimizer), from torch",
    "criterion": "Criteria (training.criterion), from torch",
    "scheduler": "Schedulers (training.scheduler), from torch",
    "dataset": "Data sets (benchmark.dataset of split, permuted and rotated; benchmark.datasets)",
}


_STATES: dict[State, str] = {
    "works": "From Avalanche, supported:",
    "adapted": "From Avalanche, supported with a model or a fix of ours:",
    "wrong": "From Avalanche, with wrong results:",
    "refused": "From Avalanche, refused:",
}


def list_catalogue(names: Sequence[str] = ()) -> str:
    """Return all names that a YAML may use; ours with summary, arguments, defaults and paper.

    Args:
        names: If given, only these names, with details even for Avalanche's and torch's. Names from
            other packages and from the user's files also work: `./mine.py:MyPlugin`.

    Raises:
        ConfigError: If a name is unknown.
    """
    if not names:
        return "\n\n".join(_listing(kind) for kind in _HEADINGS)
    everything = [(kind, *item) for kind in _HEADINGS for item in entries(kind).items()]
    known = [name for _, name, _ in everything]
    others = [name for name in names if name not in known and may_be_found(name)]
    everything += [(kind, name, entry) for name in others for kind, entry in [find_open(name)]]
    unknown = [name for name in names if name not in (*known, *others)]
    if unknown:
        hints = {name: did_you_mean(name, known) for name in unknown}
        raise ConfigError(Problem(name, f"unknown name{hint}") for name, hint in hints.items())
    return "\n".join(_block(*item) for item in everything if item[1] in names)


def _listing(kind: Kind) -> str:
    blocks = [_HEADINGS[kind]]
    blocks += [_block(kind, name, entry) for name, entry in OURS[kind].items()]
    others = {name: entry for name, entry in entries(kind).items() if not entry.is_ours}
    states = {name: built_in(entry.target) for name, entry in others.items()}
    for state, heading in _STATES.items():
        members = [name for name, known in states.items() if known and known.state == state]
        if members:
            blocks.append(f"  {heading}\n{_wrapped(', '.join(members), indent=4)}")
    if unknown := [name for name, known in states.items() if known is None]:
        blocks.append(_wrapped(", ".join(unknown), indent=2))
    return "\n".join(blocks)


def _block(kind: Kind, name: str, entry: Entry) -> str:
    signature = signature_of(kind, entry)
    lines = [f"  {name}"]
    if signature.summary:
        lines.append(_wrapped(signature.summary, indent=4))
    state = built_in(entry.target)
    if state:
        lines.append(_wrapped(_remark(state), indent=4))
    lines += _table(settable(kind, entry, signature))
    if entry.paper:
        lines.append(_wrapped(f"[{entry.paper}]", indent=4))
    return "\n".join(lines)


def _remark(built_in: BuiltIn) -> str:
    """Return the state of one of Avalanche's classes as a sentence."""
    if built_in.state == "refused":
        return f"Refused: it {built_in.remark}."
    needs = []
    if built_in.heads:
        needs.append(f"model.multi_head {'true' if built_in.heads == 'many' else 'false'}")
    if built_in.scenarios != SCENARIOS:
        needs.append(f"benchmark.scenario {' or '.join(map(repr, built_in.scenarios))}")
    runs = "runs" if built_in.state == "wrong" else "works"
    condition = f" only with {' and '.join(needs)}" if needs else ""
    more = {"adapted": f": it {built_in.remark}", "wrong": f", but it {built_in.remark}"}
    return f"It {runs}{condition}{more.get(built_in.state, '')}."


def _table(parameters: Iterable[Parameter]) -> list[str]:
    """Return a line per parameter: `key: default`, as in a YAML, and the values it accepts."""
    rows = []
    for parameter in parameters:
        given = "" if parameter.default is NO_DEFAULT else shown(parameter.default)
        required = "required, " if parameter.required else ""
        rows.append((f"{parameter.name}: {given}", required + describe(parameter.type)))
    width = max((len(given) for given, _ in rows), default=0)
    return [f"      {given:<{width}}  {admitted}" for given, admitted in rows]


def _wrapped(text: str, indent: int) -> str:
    margin = " " * indent
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
