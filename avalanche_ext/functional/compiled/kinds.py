"""Parts and settings of a model and of the terms of its loss; they decide which code fits."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import starmap
from typing import Any

from torch import nn

from avalanche_ext.functional.compiled.terms import Term

PLAIN = (bool, int, float, str, bytes, type(None))
"""The types of attributes that are settings."""


def kinds_of(model: nn.Module, criterion: nn.Module, terms: Sequence[Term]) -> Hashable:
    """Return a key that is equal for models, criteria and terms that share code."""
    modules = [*model.named_modules(), *criterion.named_modules()]
    return (*starmap(_kind, modules), *((type(term), *_settings(term)) for term in terms))


def _kind(name: str, module: nn.Module) -> Hashable:
    plain = tuple(sorted((k, v) for k, v in vars(module).items() if isinstance(v, PLAIN)))
    tensors = [*module._parameters.items(), *module._buffers.items()]
    shapes = tuple((k, t.shape, t.dtype) for k, t in tensors if t is not None)
    return name, type(module), plain, shapes


def _settings(term: Term) -> Iterator[Hashable]:
    """Yield the settings that determine a term's code; λ is an input of the code instead."""
    for name, value in vars(term).items():
        if isinstance(value, PLAIN) and name != "lam":
            yield name, value
        elif isinstance(value, list | tuple) and all(isinstance(each, PLAIN) for each in value):
            yield name, tuple(value)


def parts_of(
    model: nn.Module, criterion: nn.Module, terms: Sequence[Term]
) -> Iterator[tuple[dict[str, Any], str, object]]:
    """Yield each module, tensor and setting, after the dictionary that holds it and its name."""
    for module in (*model.modules(), *criterion.modules()):
        for places in (module._modules, module._parameters, module._buffers):
            yield from ((places, name, part) for name, part in places.items())
        settings = vars(module)
        yield from ((settings, k, v) for k, v in settings.items() if isinstance(v, PLAIN))
    for settings in map(vars, terms):
        plain = ((k, v) for k, v in settings.items() if isinstance(v, PLAIN))
        yield from ((settings, k, v) for k, v in plain if k != "lam")


def is_same(now: object, part: object) -> bool:
    """Return whether a part is the one it was; a setting may be set again to an equal value."""
    return now is part or (isinstance(part, PLAIN) and type(now) is type(part) and now == part)


def is_torchs_or_ours(part: object) -> bool:
    """Return whether a module or term is known to depend on its parts and settings alone."""
    known = "torch.nn.", "avalanche_ext.models.", "avalanche_ext.plugins."
    return type(part).__module__.startswith(known)
