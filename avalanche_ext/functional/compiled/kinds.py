"""Parts and settings of a model and of the terms of its loss; they decide which code fits."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import starmap
from typing import Any

from torch import nn

from avalanche_ext.functional.compiled.terms import Term

_PLAIN = (bool, int, float, str, bytes, type(None))


def is_setting(value: object) -> bool:
    """Return whether an attribute is a setting: a number, a text, None, or a tuple of these."""
    if type(value) is tuple:
        return all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, _PLAIN)


def kinds_of(model: nn.Module, criterion: nn.Module, terms: Sequence[Term]) -> Hashable:
    """Return a key that is equal for models, criteria and terms that share code."""
    modules = [*model.named_modules(), *criterion.named_modules()]
    return (*starmap(_kind, modules), *((type(term), *_settings(term)) for term in terms))


def _kind(name: str, module: nn.Module) -> Hashable:
    settings = tuple(sorted(found[1:] for found in _named_settings(module)))
    tensors = [*module._parameters.items(), *module._buffers.items()]
    shapes = tuple((k, t.shape, t.dtype) for k, t in tensors if t is not None)
    return name, type(module), settings, shapes


def _settings(term: Term) -> Iterator[Hashable]:
    """Yield the settings that determine a term's code; λ is an input of the code instead."""
    yield from (found[1:] for found in _named_settings(term) if found[1] != "lam")


def parts_of(
    model: nn.Module, criterion: nn.Module, terms: Sequence[Term]
) -> Iterator[tuple[dict[str, Any], str, object]]:
    """Yield each module, tensor and setting, after the dictionary that holds it and its name."""
    for module in (*model.modules(), *criterion.modules()):
        for places in (module._modules, module._parameters, module._buffers):
            yield from ((places, name, part) for name, part in places.items())
        yield from _named_settings(module)
    for term in terms:
        yield from (found for found in _named_settings(term) if found[1] != "lam")


def _named_settings(owner: object) -> Iterator[tuple[dict[str, Any], str, object]]:
    attributes = vars(owner)
    pairs = ((name, _frozen(value)) for name, value in attributes.items())
    yield from ((attributes, name, value) for name, value in pairs if is_setting(value))


def _frozen(value: object) -> object:
    """Return a list as a tuple, which later changes of the list leave as it is."""
    return tuple(value) if type(value) is list else value


def is_same(now: object, part: object) -> bool:
    """Return whether a part is the one it was; a setting may be set again to an equal value."""
    if now is part:
        return True
    now = _frozen(now)
    return is_setting(part) and type(now) is type(part) and now == part


def is_torchs_or_ours(part: object) -> bool:
    """Return whether a module or term is known to depend on its parts and settings alone."""
    known = "torch.nn.", "avalanche_ext.models.", "avalanche_ext.plugins."
    return type(part).__module__.startswith(known)
