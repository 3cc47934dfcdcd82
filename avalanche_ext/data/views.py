"""Transforms of samples when they are fetched, with their own random generators."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

Transform = Callable[[Tensor], Tensor]

_GENERATORS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_rng_state, torch.set_rng_state),
    (np.random.get_state, np.random.set_state),
    (random.getstate, random.setstate),
)
"""Getters and setters of the global generators' states: torch's (CPU), NumPy's, Python's."""


class SampleTransforms:
    """Transforms of each sample, with their own random numbers.

    Transforms draw from the global generators of torch, NumPy and Python. While the transforms run,
    these generators have separate states, and are restored afterwards. So a run's other draws are
    the same with and without the transforms. (Draws on a GPU are not covered.)

    Args:
        transforms: Transforms of one sample, in order.
        seed: Seed of the draws.
        changes: Further transforms, of a batch (B, ...), that come last and are not random.
    """

    def __init__(
        self, transforms: Sequence[Transform], seed: int = 0, changes: Sequence[Transform] = ()
    ) -> None:
        self.transforms = tuple(transforms)
        self.changes = tuple(changes)
        self.seed = seed
        # Setting all three takes longer than a crop, and torchvision only needs one.
        self._n_generators = 1 if all(map(_draws_from_torch, self.transforms)) else 3
        self._states: Any = None
        self._worker: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the transformed sample."""
        return self.rows(x[None])[0]

    def rows(self, x: Tensor) -> Tensor:
        """Return the transformed samples of a batch (B, ...), B at least 1."""
        if self.transforms:
            with self._own_generators():
                x = torch.stack([in_turn(self.transforms, sample) for sample in x])
        return in_turn(self.changes, x)

    @contextmanager
    def _own_generators(self) -> Iterator[None]:
        # Not an attribute: a copy of it would refer to other generators.
        generators = _GENERATORS[: self._n_generators]
        before = [get() for get, _ in generators]
        worker = get_worker_info()
        if worker is not None and self._worker != worker.seed:
            # Without this, the copies in a loader's workers would draw the same numbers.
            self._states, self._worker = _seeded_states([self.seed, worker.seed]), worker.seed
        elif self._states is None:
            self._states = _seeded_states([self.seed])
        _set(self._states, generators)
        try:
            yield
        finally:
            self._states = [get() for get, _ in generators]
            _set(before, generators)


@contextmanager
def seeded_generators(entropy: list[int]) -> Iterator[None]:
    """Seed the global generators inside this context, and restore their states afterwards."""
    before = global_states()
    set_global_states(_seeded_states(entropy))
    try:
        yield
    finally:
        set_global_states(before)


def in_turn(transforms: Sequence[Transform], x: Tensor) -> Tensor:
    """Return `x` after all transforms, in order."""
    for transform in transforms:
        x = transform(x)
    return x


def global_states() -> tuple[Tensor, Any, Any]:
    """Return the states of torch's (on the CPU), NumPy's and Python's global generators."""
    of_torch, of_numpy, of_python = (get() for get, _ in _GENERATORS)
    return of_torch, of_numpy, of_python


def set_global_states(states: tuple[Tensor, Any, Any]) -> None:
    """Set these generators to states that `global_states` returned."""
    _set(states, _GENERATORS)


def draws_of(transform: Transform | None) -> Any:
    """Return the generator states that a transform will use next; None for no transform."""
    if transform is None:
        return None
    return transform._states if isinstance(transform, SampleTransforms) else global_states()


@contextmanager
def drawing(transform: Transform | None, draws: Any) -> Iterator[None]:
    """Make a transform draw from states that `draws_of` has returned, then continue as before."""
    before = draws_of(transform)
    _put_draws(transform, draws)
    try:
        yield
    finally:
        _put_draws(transform, before)


def _put_draws(transform: Transform | None, draws: Any) -> None:
    if isinstance(transform, SampleTransforms):
        transform._states = draws
    elif transform is not None:
        set_global_states(draws)


def _set(states: Sequence[Any], generators: Sequence[tuple[Any, Callable[[Any], Any]]]) -> None:
    # There may be states for all three although fewer are set.
    for state, (_, put) in zip(states, generators, strict=False):
        put(state)


def _draws_from_torch(transform: Transform) -> bool:
    """Return whether a transform is torchvision's and contains no other transform."""
    is_theirs = type(transform).__module__.startswith("torchvision.transforms.v2")
    holds_others = hasattr(transform, "transforms") or hasattr(transform, "lambd")
    return is_theirs and not holds_others


def _seeded_states(entropy: list[int]) -> tuple[Tensor, Any, Any]:
    """Return new states of the three generators without changing the global ones."""
    words = np.random.SeedSequence(entropy).generate_state(3).tolist()
    return (
        torch.Generator().manual_seed(words[0]).get_state(),
        np.random.RandomState(words[1]).get_state(),
        random.Random(words[2]).getstate(),
    )
