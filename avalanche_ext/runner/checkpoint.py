"""Checkpoints of a run: how it saves them during training, and how another process resumes.

A checkpoint is the state of the strategy with all objects that it refers to, except those that the
same configuration recreates: the benchmark with its data. It is taken after every experience, and
within one between two batches of a `TensorLoader`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, NoReturn

import torch
from avalanche.core import BasePlugin, SupervisedPlugin

from avalanche_ext.config import Cell
from avalanche_ext.data import Strategy
from avalanche_ext.data.views import global_states, set_global_states
from avalanche_ext.plugins import MethodPlugin
from avalanche_ext.plugins.consolidation.penalty import QuadraticPenalty
from avalanche_ext.results.files import one_line, printable, reason_of
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.checkpoint_file import (
    Position,
    checkpoint_bytes,
    packages_of,
    versions,
)
from avalanche_ext.runner.components import Built
from avalanche_ext.runner.imports import is_users
from avalanche_ext.runner.live import Live
from avalanche_ext.runner.machine import is_of_machine
from avalanche_ext.runner.middle import resumable_loader
from avalanche_ext.runner.module_state import module_state, set_module_state
from avalanche_ext.runner.recipe import Schedule
from avalanche_ext.runner.sigterm import ENDED_BY_SIGTERM, EarlyEnd
from avalanche_ext.state import NotStorableError, StateError, encoded, restored

_PER_ITERATION = ("mbatch", "mb_output", "loss")
"""Attributes of a strategy that only the current iteration needs."""
_PER_EXPERIENCE = ("adapted_dataset", "dataloader")
"""Attributes that only the current experience needs; `JointTraining` keeps them, with all data."""
_WHOLE = (MethodPlugin, QuadraticPenalty)
"""Classes whose pickles leave out references to the model, which a checkpoint includes."""


class Checkpoints(SupervisedPlugin):  # type: ignore[misc]
    """Takes a cell's checkpoints, and restores the last one.

    Args:
        cell: The cell.
        files: The cell's files, the checkpoint among them.
        built: The cell's newly created objects.

    Attributes:
        has_saved: Whether this process has written a checkpoint.
    """

    supports_distributed = True

    def __init__(self, cell: Cell, files: CellFiles, built: Built) -> None:
        super().__init__()
        self._files = files
        self._hash = cell.hash
        self._packages = packages_of(cell)
        self._versions = versions(cell)
        self._strategy: Any = built.strategy
        self._live = Live(built.benchmark, {"strategy": built.strategy, "checkpoints": self})
        self._minutes = cell.training.checkpoint_minutes
        self._position: Callable[[int | None], Position] | None = None
        self._saved_at = monotonic()
        self.has_saved = False
        self._is_last_written = False
        self._part = -1
        self._places_without: set[str] = set()
        """Places where something in the cell has no state that can be saved."""
        self._early_end = EarlyEnd(lambda: self._position is not None, self._end)
        self._finishing: Thread | None = None
        built.strategy.plugins.insert(len(built.strategy.plugins) - 1, self)  # Before the clock.

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count the parts of the experience from 0."""
        self._part = -1

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which part of the experience is trained on."""
        self._part += 1

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Watch the loader if training can resume within the experience."""
        self._watch()

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """End here if SIGTERM was received and there is no better place."""
        if self._early_end.is_asked_for and resumable_loader(strategy) is None:
            self._end()

    def _watch(self) -> None:
        loader = resumable_loader(self._strategy)
        if loader is not None:
            loader.before_batch = self._between_batches

    def _between_batches(self) -> None:
        is_due = monotonic() - self._saved_at >= 60 * self._minutes
        must_end = self._early_end.is_asked_for
        if (is_due or must_end) and self._position is not None:
            self.save(self._position(self._part))
        if must_end:
            self._end(has_just_saved=True)

    @contextmanager
    def within(self, position: Callable[[int | None], Position]) -> Iterator[None]:
        """Take checkpoints within an experience that is trained on inside this context.

        Args:
            position: Returns where the run is, given the part of the experience.
        """
        self._position = position
        try:
            yield
        finally:
            self._position = None

    @contextmanager
    def heeding_sigterm(self) -> Iterator[None]:
        """Make SIGTERM end this process with a checkpoint, unless something else handles it."""
        try:
            with self._early_end.heeding_sigterm():
                yield
        finally:
            self._finish()

    def _finish(self) -> None:
        """Wait until the checkpoint is on the disk."""
        if self._finishing:
            self._finishing.join()
            self._finishing = None

    def _end(self, has_just_saved: bool = False) -> NoReturn:
        """End this process, and print which checkpoint exists."""
        self._early_end.stop_waiting()
        self._finish()
        path = self._files.checkpoint
        found = "the last checkpoint is kept" if path.exists() else "there is no checkpoint yet"
        if has_just_saved and self._is_last_written:
            found = "a checkpoint was written"
        print(f"interrupted: {found}: {path}", file=sys.stderr, flush=True)
        raise SystemExit(ENDED_BY_SIGTERM)

    def save(self, position: Position) -> None:
        """Write a checkpoint, unless something in the cell has no state that can be saved."""
        place = "after an experience" if position.part is None else "within an experience"
        if place in self._places_without:
            return
        self._finish()
        self._is_last_written = False
        try:
            state = self._encoded(self._root(position))
        except NotStorableError as error:
            self._places_without.add(place)
            self._say_not_storable(place, error)
            return
        content = checkpoint_bytes(self._hash, self._versions, position, state)
        self._saved_at = monotonic()
        try:
            partial = self._files.write_checkpoint(content)
        except OSError as error:
            self._say_not_written(error)
            return
        # Writing to disk dominates the time, and training need not wait for it.
        finishing = Thread(target=self._put_in_place, args=(partial,))
        finishing.start()
        self._finishing = finishing

    def _encoded(self, thing: Any) -> dict[str, Any]:
        return encoded(thing, self._live.name, _is_whole, self._packages, _gives_state)

    def _is_storable(self, thing: Any) -> bool:
        try:
            self._encoded(thing)
        except NotStorableError:
            return False
        return True

    def _put_in_place(self, partial: Path) -> None:
        try:
            self._files.finish_checkpoint(partial)
        except OSError as error:
            self._say_not_written(error)
            return
        self._is_last_written = self.has_saved = True

    def _say_not_storable(self, place: str, error: NotStorableError) -> None:
        path = self._files.checkpoint
        then = f"resumes from {path.name}" if path.exists() else "starts over"
        print(
            f"{path.parent}: {printable(error)}, so no checkpoint can be taken {place}; if the run "
            f"is ended there, it {then}",
            file=sys.stderr,
            flush=True,
        )

    def _say_not_written(self, error: OSError) -> None:
        print(
            f"{self._files.checkpoint}: no checkpoint could be written: {reason_of(error)}",
            file=sys.stderr,
            flush=True,
        )

    def _root(self, position: Position) -> dict[str, Any]:
        loader = resumable_loader(self._strategy) if position.part is not None else None
        strategy = vars(self._strategy)
        left_out = _PER_ITERATION + (_PER_EXPERIENCE if position.part is None else ())
        return {
            # First, so that their place does not depend on what else refers to them.
            "transforms": self._live.transforms,
            "data": self._live.generators(),
            "strategy": {key: strategy[key] for key in strategy if key not in left_out},
            "modules": module_state(self._is_storable),
            "position": loader.state_dict() if loader else None,
            "generators": _generators(self._strategy.device),
        }

    def restore(self, position: Position, state: Mapping[str, Any]) -> None:
        """Restore the cell to the position of a checkpoint.

        Args:
            position: Where that is.
            state: The cell's state there.

        Raises:
            StateError: If the state does not fit this cell.
        """
        try:
            self._restore(position, state)
        # A component may raise anything for a state that does not fit.
        except Exception as error:
            if isinstance(error, StateError) or is_of_machine(error):
                raise
            raise StateError(f"restoring it failed, {one_line(error)}") from error

    def _restore(self, position: Position, state: Mapping[str, Any]) -> None:
        strategy = self._strategy
        for plugin in strategy.plugins:
            if isinstance(plugin, Schedule):
                plugin.start(strategy)
        root = restored(
            state,
            {
                "transforms": self._live.transforms,
                "data": self._live.generators(),
                "strategy": vars(strategy),
                "modules": module_state(self._is_storable),
            },
            self._live.thing,
            self._packages,
            strategy.device,
        )
        vars(strategy).update(root["strategy"])
        self._live.set_generators(root["data"])
        set_module_state(root["modules"])
        if position.part is not None:
            self._part = position.part
            loader = resumable_loader(strategy)
            if loader is None:
                raise StateError("it was taken within an experience, with another loader")
            loader.load_state_dict(root["position"])
            self._watch()
        _set_generators(root["generators"], strategy.device)


def _is_whole(thing: object) -> bool:
    """Return whether a checkpoint includes what an object's own `__getstate__` leaves out.

    That of torch's optimizers leaves out the attributes that a user's optimizer adds.
    """
    is_own = isinstance(thing, torch.optim.Optimizer) and is_users(type(thing))
    return is_own or isinstance(thing, _WHOLE)


def _gives_state(thing: object) -> bool:
    """Return whether an object is a user's plugin that saves and restores its own state."""
    if not isinstance(thing, BasePlugin):
        return False
    for method in ("state_dict", "load_state_dict"):
        owner = next((base for base in type(thing).__mro__ if method in vars(base)), object)
        if owner is object or not is_users(owner):
            return False
    return True


def _generators(device: torch.device) -> dict[str, Any]:
    # Not by the GPU's number, which may differ when the run resumes.
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"global": global_states(), "gpu": on_gpu}


def _set_generators(states: Mapping[str, Any], device: torch.device) -> None:
    set_global_states(states["global"])
    if device.type == "cuda" and states["gpu"] is not None:
        torch.cuda.set_rng_state(states["gpu"], device)
