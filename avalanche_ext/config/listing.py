"""The catalogue as text, for `avalanche-ext list`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from avalanche_ext.config.annotations import describe
from avalanche_ext.config.catalogue import OURS, Entry, Kind, entries
from avalanche_ext.config.components import settable
from avalanche_ext.config.errors import ConfigError, Problem
from avalanche_ext.config.signatures import NO_DEFAULT, Parameter, read_signature
from avalanche_ext.words import did_you_mean, shown

_WIDTH = 100
_HEADINGS: dict[Kind, str] = {
    "plugin": "Plugins (methods.<name>.plugins)",
    "strategy": "Strategies (methods.<name>.strategy, with their arguments in args)",
    "benchmark": "Benchmarks (benchmark)",
    "model": "Models (model)",
    "optimizer": "Optimizers (optimizer), torch's",
}


def list_catalogue(names: Sequence[str] = ()) -> str:
    """Return every name a YAML may use; ours with summary, arguments, defaults and paper.

    Args:
        names: If given, only these names, in full even if they are Avalanche's or torch's.

    Raises:
        ConfigError: If a name is unknown.
    """
    if not names:
        return "\n\n".join(_listing(kind) for kind in _HEADINGS)
    everything = [(kind, *item) for kind in _HEADINGS for item in entries(kind).items()]
    known = [name for _, name, _ in everything]
    unknown = [name for name in names if name not in known]
    if unknown:
        hints = {name: did_you_mean(name, known) for name in unknown}
        raise ConfigError(Problem(name, f"unknown name{hint}") for name, hint in hints.items())
    return "\n".join(_block(*item) for item in everything if item[1] in names)


def _listing(kind: Kind) -> str:
    blocks = [_HEADINGS[kind]]
    blocks += [_block(kind, name, entry) for name, entry in OURS[kind].items()]
    others = [name for name, entry in entries(kind).items() if not entry.is_ours]
    if others:
        blocks.append(_wrapped(", ".join(others), indent=2))
    return "\n".join(blocks)


def _block(kind: Kind, name: str, entry: Entry) -> str:
    signature = read_signature(entry.target)
    lines = [f"  {name}"]
    if signature.summary:
        lines.append(_wrapped(signature.summary, indent=4))
    lines += _table(settable(kind, signature))
    if entry.paper:
        lines.append(_wrapped(f"[{entry.paper}]", indent=4))
    return "\n".join(lines)


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
