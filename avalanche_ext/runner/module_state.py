"""What the user's files keep outside of objects: in their modules, and in their classes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avalanche_ext.runner.imports import is_users, loaded

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
"""Classes of random generators."""
_KEPT = (int, float, list, dict, set, deque, Tensor, np.ndarray, *GENERATORS)

State = Mapping[str, Mapping[str, Any]]


def module_state(is_storable: Callable[[Any], bool]) -> State:
    """Return the numbers, containers, tensors, generators and own objects in the user's files.

    Args:
        is_storable: Returns whether a checkpoint can include a value. Containers and objects that
            it cannot include are left out, since they may well be constants.

    Returns:
        The values by name, for each module, `module:`, and each of its classes, `module:Class`.
    """
    return {
        place: {
            name: value
            for name, value in vars(owner).items()
            if not name.startswith("__") and _is_state(value, is_storable)
        }
        for place, owner in _owners()
    }


def set_module_state(state: State) -> None:
    """Set what `module_state` has returned in another process."""
    for place, owner in _owners():
        for name, value in state.get(place, {}).items():
            now = vars(owner).get(name)
            if now is not value and not (isinstance(value, int | float) and now == value):
                setattr(owner, name, value)


def _is_state(value: Any, is_storable: Callable[[Any], bool]) -> bool:
    is_kept = isinstance(value, _KEPT) or (is_users(type(value)) and not isinstance(value, type))
    return is_kept and (isinstance(value, GENERATORS) or is_storable(value))


def _owners() -> Iterator[tuple[str, Any]]:
    for name, module in loaded().items():
        yield f"{name}:", module
        for thing in [*vars(module).values()]:
            if isinstance(thing, type) and thing.__module__ == name:
                yield f"{name}:{thing.__qualname__}", thing
