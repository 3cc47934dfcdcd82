"""Converts plain data to objects, filling in newly created ones."""

from __future__ import annotations

import logging
import random
import weakref
from collections.abc import Callable, Collection
from types import CellType
from typing import Any

import numpy as np
import torch
from numpy.lib.format import descr_to_dtype
from torch import Tensor, nn

from avalanche_ext.state.arrays import over_memory
from avalanche_ext.state.encode import FORMAT, PLAIN
from avalanche_ext.state.names import StateError, is_called, named
from avalanche_ext.state.storages import Mover, typed

_MISSING = object()


def _nothing_live(name: str) -> Any:
    raise StateError(f"it needs {name}, which does not exist here")


def restored(
    state: Any,
    onto: Any = _MISSING,
    live: Callable[[str], Any] = _nothing_live,
    packages: Collection[str] = (),
    device: torch.device | None = None,
) -> Any:
    """Return the object whose state `encoded` has returned.

    Objects of the same classes at the same places in `onto` are filled in rather than replaced, so
    that all references to them see the restored state.

    Args:
        state: What `encoded` returned. Its tensors become part of the object.
        onto: The newly created object.
        live: Gives the object that has a name; see `encoded`.
        packages: Packages that objects may come from, besides `state.names.PACKAGES`.
        device: Device for tensors that were on a GPU; None leaves them where they are.

    Raises:
        StateError: If the state is malformed, or refers to something that does not exist here.
        RuntimeError: If torch refuses it, perhaps because the memory is full.
    """
    try:
        if state["format"] != FORMAT:
            raise StateError(f"it has format {state['format']}, but this version has {FORMAT}")
        decoder = _Decoder(state["nodes"], live, packages, device)
        return decoder.value(state["root"], onto)
    except StateError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"it is malformed: {type(error).__name__}: {error}") from error


class _Decoder:
    def __init__(
        self,
        nodes: list[Any],
        live: Callable[[str], Any],
        packages: Collection[str],
        device: torch.device | None,
    ) -> None:
        self._nodes = nodes
        self._live = live
        self._packages = packages
        self._device = device
        self._made: dict[int, Any] = {}
        self._filled: dict[int, Any] = {}
        self._mover = Mover()

    def value(self, value: Any, twin: Any = _MISSING) -> Any:
        """Return the object that `value` represents.

        Args:
            value: A plain value, or the number of a node.
            twin: The object currently in its place.
        """
        if type(value) in PLAIN:
            return value
        (number,) = value
        if number not in self._made:
            kind, *rest = self._nodes[number]
            self._made[number] = self._make(kind, rest, number, twin)
        return self._made[number]

    def _items(self, items: Any, twin: Any = ()) -> list[Any]:
        if isinstance(items, Tensor):
            numbers: list[Any] = items.tolist()
            return numbers
        there = twin if isinstance(twin, list | tuple) else ()
        known = [*there, *[_MISSING] * len(items)]
        return [self.value(item, known[i]) for i, item in enumerate(items)]

    def _dict(self, keys: Any, values: Any, twin: Any, into: Any) -> Any:
        names = self._items(keys, [*twin] if isinstance(twin, dict) else ())
        if isinstance(values, Tensor):
            into.update(zip(names, values.tolist(), strict=True))
            return into
        for name, value in zip(names, values, strict=True):
            there = twin.get(name, _MISSING) if isinstance(twin, dict) else _MISSING
            into[name] = self.value(value, there)
        return into

    def _make(self, kind: str, rest: list[Any], number: int, twin: Any) -> Any:
        match kind:
            case "live":
                return self._live(rest[0])
            case "list":
                made: Any = self._made.setdefault(number, [])
                made.extend(self._items(rest[0], twin))
                return made
            case "dict":
                return self._dict(rest[0], rest[1], twin, self._made.setdefault(number, {}))
            case "tuple":
                return tuple(self._items(rest[0], twin))
            case "set" | "frozenset":
                return {"set": set, "frozenset": frozenset}[kind](self._items(rest[0]))
            case "tensor" | "parameter" | "buffer":
                return self._tensor(kind, rest, number, twin)
            case "array":
                return over_memory(typed(rest[0]), *rest[1:])
            case "scalar":
                return np.frombuffer(rest[1], descr_to_dtype(rest[0]))[0]
            case "numpy generator":
                return np.random.Generator(self.value(rest[0]))
            case "bit generator":
                generator: Any = getattr(np.random, rest[0])(self.value(rest[1]))
                generator.state = self.value(rest[2])
                return generator
            case "random state":
                state = self.value(rest[0])
                legacy = np.random.RandomState(getattr(np.random, state["bit_generator"])())
                legacy.set_state(state)
                return legacy
            case "random":
                pythons = random.Random()
                pythons.setstate(self.value(rest[0]))
                return pythons
            case "seed sequence":
                return np.random.SeedSequence(**self.value(rest[0]))
            case "torch generator":
                drawing = torch.Generator(self._placed(rest[0]))
                return drawing.set_state(rest[1])
            case "torch":
                return getattr(torch, rest[0])
            case "device":
                return self._placed(rest[0])
            case "logger":
                return logging.getLogger(rest[0])
            case "weak":
                target = self.value(rest[0])
                return weakref.ref(target) if target is not None else twin
            case "method":
                return getattr(self.value(rest[0]), rest[1])
            case "global":
                return named(rest[0], self._packages)
            case "kept":
                name = f"{getattr(twin, '__module__', '')}:{getattr(twin, '__qualname__', '')}"
                cells = getattr(twin, "__closure__", None) or ()
                if name != rest[0] or len(cells) != len(rest[1]):
                    raise StateError(f"it needs the function {rest[0]}, which does not exist here")
                self._made[number] = twin  # It may refer to itself.
                for cell, value in zip(cells, rest[1], strict=True):
                    self._fill(cell, value)
                return twin
            case "given":
                return self._given(rest[0], rest[1], number, twin)
            case "object":
                return self._object(rest[0], rest[1], number, twin)
            case "new" | "call":
                return self._call(kind, rest, number)
        raise StateError(f"it has a part of the unknown kind {kind!r}")

    def _fill(self, cell: CellType, value: list[Any]) -> None:
        """Set the value of a closure cell, unless none was stored."""
        if not value:
            return
        try:
            there = cell.cell_contents
        except ValueError:
            there = _MISSING
        cell.cell_contents = self.value(value[0], there)

    def _tensor(self, kind: str, rest: list[Any], number: int, twin: Any) -> Tensor:
        content, needs_gradient, gradient, attributes, device = rest
        content = self._mover.on(typed(content), self._placed(device))
        if kind == "parameter" and self._is_free(twin, nn.Parameter) and _fits(content, twin):
            # Compiled code and hooks of the new model refer to it.
            made: Any = twin.requires_grad_(needs_gradient)
            made.data = content
        elif kind == "parameter":
            made = nn.Parameter(content, needs_gradient)
        elif kind == "buffer":
            made = nn.Buffer(content)
        else:
            made = content.requires_grad_(needs_gradient)
        self._made[number] = made
        made.grad = self.value(gradient)
        if attributes:
            self._dict(attributes[0], attributes[1], _MISSING, vars(made))
        return made  # type: ignore[no-any-return]

    def _given(self, name: str, state: Any, number: int, twin: Any) -> Any:
        if not self._is_free(twin, named(name, self._packages)):
            missing = name.replace(":", ".")
            raise StateError(f"it has the state of a {missing}, which does not exist here")
        self._made[number] = twin
        twin.load_state_dict(self.value(state))
        return twin

    def _object(self, name: str, state: Any, number: int, twin: Any) -> Any:
        found = named(name, self._packages)
        if not isinstance(found, type):
            raise StateError(f"it has an object of {name}, which is not a class")
        kind: Any = found
        is_filled_in = self._is_free(twin, kind)
        made = self._made[number] = twin if is_filled_in else kind.__new__(kind)
        before = dict(vars(made)) if is_filled_in and hasattr(made, "__dict__") else {}
        content = self._state(state, before)
        if content is None:
            return made
        if hasattr(kind, "__setstate__"):
            made.__setstate__(content)
        else:
            own, slots = content if isinstance(content, tuple) else (content, None)
            if not _leaves_out(kind):
                vars(made).clear()
            vars(made).update(own or {})
            for key, value in (slots or {}).items():
                setattr(made, key, value)
        return made

    def _state(self, state: Any, before: dict[str, Any]) -> Any:
        """Return an object's own state; if it is a dictionary, no other object refers to it."""
        if type(state) is tuple and self._nodes[state[0]][0] == "dict":
            _, keys, values = self._nodes[state[0]]
            return self._dict(keys, values, before, {})
        return self.value(state)

    def _call(self, how: str, rest: list[Any], number: int) -> Any:
        name, args, state, entries, pairs = rest
        function: Any = named(name, self._packages)
        if not is_called(name, function, self._packages):
            raise StateError(f"it calls {name}, which no state needs")
        given = self._items(args)
        made = function.__new__(function, *given) if how == "new" else function(*given)
        self._made[number] = made
        if entries is not None:
            for entry in self._items(entries):
                getattr(made, "append", getattr(made, "add", None))(entry)  # type: ignore[misc]
        if pairs is not None:
            self._dict(pairs[0], pairs[1], _MISSING, made)
        if state is not None:
            content = self.value(state)
            if hasattr(function, "__setstate__"):
                made.__setstate__(content)
            else:
                vars(made).update(content)
        return made

    def _placed(self, device: str) -> torch.device:
        wanted = torch.device(device)
        return self._device if self._device is not None and wanted.type == "cuda" else wanted

    def _is_free(self, twin: Any, kind: type) -> bool:
        """Return whether the object has exactly this class and has not been filled in yet."""
        if type(twin) is not kind or id(twin) in self._filled:
            return False
        self._filled[id(twin)] = twin  # Kept alive, so that no other object gets its id.
        return True


def _leaves_out(kind: type) -> bool:
    """Return whether a class's states may lack attributes that its objects have."""
    return any("__getstate__" in vars(base) for base in kind.__mro__[:-1])


def _fits(content: Tensor, twin: Tensor) -> bool:
    return (
        (content.shape, content.dtype, content.stride()) == (twin.shape, twin.dtype, twin.stride())
    ) and content.device == twin.device
