"""Converts objects to plain data: each object once, so shared objects stay shared."""

from __future__ import annotations

import copyreg
import logging
import random
import types
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr
from torch import Tensor, nn

from avalanche_ext.state.arrays import memory_of
from avalanche_ext.state.names import is_called, is_known, name_of
from avalanche_ext.state.storages import compact, plain

FORMAT = 2

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose values represent themselves. All other objects are nodes: `(3,)` is node 3."""

TORCH_NAMES = (torch.dtype, torch.layout, torch.memory_format)
"""Types of torch's constants, which are identified by their names in torch."""

_PACKED_FROM = 32
"""The length from which a list of integers, or of floats, becomes a tensor."""

_TENSORS: dict[type, str] = {Tensor: "tensor", nn.Parameter: "parameter", nn.Buffer: "buffer"}
_WITH_MEMORY = frozenset({*_TENSORS.values(), "array"})
"""Kinds of nodes whose first part is a tensor that may share its memory with others."""
_METHODS = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)

Live = Callable[[Any], "str | None"]
Is = Callable[[Any], bool]


class NotStorableError(TypeError):
    """An object whose state cannot be stored; the message says where it is and what it is."""


def encoded(
    root: Any,
    live: Live = lambda thing: None,
    is_whole: Is = lambda thing: False,
    packages: Collection[str] = (),
    gives_state: Is = lambda thing: False,
) -> dict[str, Any]:
    """Return the state of an object, and of all objects it refers to, as tensors and plain data.

    The result shares its tensors with the objects: save or copy it before they change.

    Args:
        root: The object.
        live: Returns the name of an object that will exist when the state is restored, so that it
            need not be stored; None for all others.
        is_whole: Returns whether an object is stored with all its attributes, even those that its
            `__getstate__` leaves out.
        packages: Packages that objects may be from, besides `state.names.PACKAGES`.
        gives_state: Returns whether an object's state is the result of its `state_dict`, which a
            newly created object gets by `load_state_dict`.

    Raises:
        NotStorableError: If an object has no state that can be stored, such as an open file or a
            running generator.
    """
    encoder = _Encoder(live, is_whole, packages, gives_state)
    value = encoder.value(root, "")
    encoder.compact()
    return {"format": FORMAT, "root": value, "nodes": encoder.nodes}


class _Encoder:
    def __init__(
        self,
        live: Live,
        is_whole: Is,
        packages: Collection[str],
        gives_state: Is,
    ) -> None:
        self.nodes: list[Any] = []
        self._live = live
        self._is_whole = is_whole
        self._packages = packages
        self._gives_state = gives_state
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # Keeps objects alive, so that no other gets the same `id`.

    def value(self, thing: Any, path: str) -> Any:
        """Return the representation of an object: itself, or the number of its node."""
        if type(thing) in PLAIN:
            return thing
        number = self._numbers.get(id(thing))
        if number is None:
            number = self._numbers[id(thing)] = len(self.nodes)
            self._alive.append(thing)
            self.nodes.append(None)
            self.nodes[number] = self._node(thing, path)
        return (number,)

    def items(self, things: Sequence[Any], path: str) -> Any:
        """Return the representation of a list's entries: a tensor of numbers, or a list."""
        kinds = set(map(type, things))
        if len(things) >= _PACKED_FROM and kinds in ({int}, {float}):
            dtype = torch.int64 if kinds == {int} else torch.float64
            try:
                return torch.tensor(things, dtype=dtype)
            except (OverflowError, RuntimeError, ValueError):
                pass  # Integers of more than 64 bits.
        if kinds <= PLAIN:
            return list(things)
        return [self.value(thing, f"{path}[{i}]") for i, thing in enumerate(things)]

    def compact(self) -> None:
        """Leave out memory that no tensor uses, where tensors are small parts of a larger one."""
        nodes = [node for node in self.nodes if node[0] in _WITH_MEMORY]
        tensors = compact([node[1] for node in nodes])
        for node, content in zip(nodes, plain(tensors), strict=True):
            node[1] = content

    def _node(self, thing: Any, path: str) -> Any:
        name = self._live(thing)
        if name is not None:
            return ["live", name]
        kind = type(thing)
        if self._gives_state(thing):
            return ["given", self._name(kind, path), self._given(thing, path)]
        if kind in _TENSORS:
            return self._tensor(thing, path)
        if kind in (set, frozenset) and [*kind([*thing])] != [*thing]:
            raise NotStorableError(
                f"{path.lstrip('.') or 'it'} is a {kind.__name__} whose order cannot be restored, "
                "unlike a list's"
            )
        if kind in (list, tuple, set, frozenset):
            return [kind.__name__, self.items([*thing], path)]
        if kind is dict:
            return self._dict(thing, path)
        if kind is np.ndarray and not thing.dtype.hasobject:
            return ["array", *memory_of(thing)]
        if isinstance(thing, np.generic) and not thing.dtype.hasobject:
            return ["scalar", dtype_to_descr(thing.dtype), thing.tobytes()]
        if kind is np.random.Generator:
            return ["numpy generator", self.value(thing.bit_generator, path)]
        if isinstance(thing, np.random.BitGenerator) and kind.__name__ in vars(np.random):
            parts = (thing.seed_seq, thing.state)
            return ["bit generator", kind.__name__, *(self.value(each, path) for each in parts)]
        if kind is np.random.RandomState:
            return ["random state", self.value(thing.get_state(legacy=False), path)]
        if kind is random.Random:
            return ["random", self.value(thing.getstate(), path)]
        if kind is np.random.SeedSequence:
            return ["seed sequence", self.value(thing.state, path)]
        if kind is torch.Generator:
            return ["torch generator", thing.device.type, thing.get_state()]
        if isinstance(thing, TORCH_NAMES):
            return ["torch", str(thing).removeprefix("torch.")]
        if isinstance(thing, torch.device):
            return ["device", str(thing)]
        if isinstance(thing, logging.Logger):
            return ["logger", thing.name]
        if isinstance(thing, weakref.ref):
            return ["weak", self.value(thing(), path)]
        return self._callable(thing, path) or self._object(thing, path)

    def _given(self, thing: Any, path: str) -> Any:
        try:
            state = thing.state_dict()
        except Exception as error:
            kind, reason = type(thing).__qualname__, f"{type(error).__name__}: {error}"
            raise NotStorableError(f"{kind}.state_dict() raises {reason}") from error
        return self.value(state, f"{path}.state_dict()")

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        if tensor.layout is not torch.strided:
            raise _not_storable(path, "a tensor that is not dense")
        # Computed tensors are stored without their graph.
        is_leaf = tensor.is_leaf and tensor.requires_grad
        gradient = self.value(tensor.grad if tensor.is_leaf else None, f"{path}.grad")
        attributes = self._dict(vars(tensor), path)[1:] if vars(tensor) else None
        content = tensor.detach().resolve_conj().resolve_neg()
        device = tensor.device.type
        return [_TENSORS[type(tensor)], content, is_leaf, gradient, attributes, device]

    def _dict(self, entries: Mapping[Any, Any], path: str) -> Any:
        keys = self.items([*entries], f"{path} keys")
        if all(type(key) is str for key in entries):
            values = [self.value(each, f"{path}.{key}") for key, each in entries.items()]
        else:
            values = self.items([*entries.values()], path)
        return ["dict", keys, values]

    def _callable(self, thing: Any, path: str) -> Any:
        """Return the node of a class, function or method; None for other objects."""
        owner = getattr(thing, "__self__", None) if isinstance(thing, _METHODS) else None
        if owner is not None and not isinstance(owner, types.ModuleType):
            return ["method", self.value(owner, path), thing.__name__]
        if not isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType):
            return None
        if isinstance(thing, types.FunctionType) and name_of(thing) is None:
            # It is created again together with its owner.
            cells = [self._cell(cell, path) for cell in thing.__closure__ or ()]
            return ["kept", f"{thing.__module__}:{thing.__qualname__}", cells]
        return ["global", self._name(thing, path)]

    def _cell(self, cell: types.CellType, path: str) -> list[Any]:
        """Return the value of a closure cell, in a list; [] if it is empty or holds a module."""
        try:
            content = cell.cell_contents
        except ValueError:  # It has no value yet.
            return []
        return [] if isinstance(content, types.ModuleType) else [self.value(content, path)]

    def _object(self, thing: Any, path: str) -> Any:
        kind = type(thing)
        place, path = path, kind.__qualname__
        if self._is_whole(thing):
            return ["object", self._name(kind, path), self.value(vars(thing), path)]
        try:
            reduce = copyreg.dispatch_table.get(kind)
            made = reduce(thing) if reduce else thing.__reduce_ex__(4)
        except Exception as error:
            raise _not_storable(place, f"a {kind.__qualname__}") from error
        if isinstance(made, str):
            return ["global", f"{thing.__module__}:{made}"]
        make, args, state, entries, pairs = (*made, None, None, None)[:5]
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            kind, *args = args
            if not args and entries is None and pairs is None:
                return ["object", self._name(kind, path), self.value(state, path)]
            name, called, how = self._name(kind, path), kind, "new"
        elif make is copyreg.__newobj_ex__ or name_of(make) is None:  # type: ignore[attr-defined]
            raise _not_storable(place, f"a {kind.__qualname__}")
        else:
            name, called, how = self._name(make, place), make, "call"
        if not is_called(name, called, self._packages):
            raise _not_storable(place, f"a {kind.__qualname__}")
        return [
            how,
            name,
            self.items([*args], path),
            self.value(state, path),
            None if entries is None else self.items([*entries], path),
            None if pairs is None else self._dict(dict(pairs), path)[1:],
        ]

    def _name(self, thing: Any, path: str) -> str:
        name = name_of(thing)
        if name is None:
            what = f"{thing.__qualname__}, which is defined within a function"
            raise NotStorableError(f"{path.lstrip('.')} refers to {what}")
        if not is_known(name, self._packages):
            raise _not_storable(path, f"made by {name.replace(':', '.')}")
        return name


def _not_storable(path: str, what: str) -> NotStorableError:
    return NotStorableError(f"{path.lstrip('.') or 'it'} is {what}, which cannot be stored")
