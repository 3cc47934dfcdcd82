"""Checkpoints of a run: how they are taken while it trains, and how another process goes on.

A checkpoint is the state of the strategy with all that it refers to, except what the same
configuration makes again: the benchmark with its data. It is taken after every experience, and
within one between two batches of a `TensorLoader`.
"""

from __future__ import annotations

import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from io import BytesIO
from pathlib import Path
from threading import Thread, current_thread, main_thread
from time import monotonic
from typing import Any, NoReturn

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates.base_sgd import BaseSGDTemplate
from avalanche.training.templates.update_type import SGDUpdate

from avalanche_ext import __version__
from avalanche_ext.config import Cell
from avalanche_ext.config.sources import KNOWN_PACKAGES
from avalanche_ext.data import RepeatedBatches, Strategy, TensorLoader
from avalanche_ext.data.views import global_states, set_global_states
from avalanche_ext.plugins import MethodPlugin
from avalanche_ext.plugins.consolidation.penalty import QuadraticPenalty
from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.components import Built
from avalanche_ext.runner.live import Live
from avalanche_ext.runner.recipe import Schedule
from avalanche_ext.state import NotStorableError, StateError, encoded, restored

FORMAT = 1
_PER_ITERATION = ("mbatch", "mb_output", "loss")
"""What a strategy holds of an iteration, and needs in no other."""
_WHOLE = (MethodPlugin, QuadraticPenalty)
"""Classes whose pickles leave out what refers to the model, which a checkpoint holds with them."""
_SECONDS_FOR_LAST = 3
"""How long SIGTERM waits for the end of an iteration."""
OF_THE_MACHINE = (OSError, MemoryError, torch.OutOfMemoryError)
"""Errors that say nothing about a checkpoint or a cell: the next run may not meet them."""
_ENDED_BY_SIGTERM = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        n_done: Experiences (of the original stream) that it has trained on and evaluated.
        part: Within the next one, the part that it is training on, from 0; None between two.
        start: How many iterations the run had before the next experience.
        seconds: Seconds by phase.
        n_bytes: Length of events.jsonl.
    """

    n_done: int
    part: int | None
    start: int
    seconds: Mapping[str, float]
    n_bytes: int


def versions(cell: Cell) -> dict[str, str]:
    """Return the versions that decide a cell's numbers and the form of its state, by distribution.

    They are those of this package and what it builds on, and of the packages that the cell's
    components are from.
    """
    names = {"avalanche-lib", "torch", "torchvision", "numpy", "scikit-learn"}
    others = _packages(cell) - {*KNOWN_PACKAGES}
    if others:
        installed = packages_distributions()
        names |= {name for package in others for name in installed.get(package, ())}
    return {"avalanche-ext": __version__, **{name: version(name) for name in sorted(names)}}


class Checkpoints(SupervisedPlugin):  # type: ignore[misc]
    """Takes a cell's checkpoints, and restores the last one.

    Args:
        cell: The cell.
        files: Where the checkpoint is.
        built: The cell's objects as they are made anew.

    Attributes:
        has_saved: Whether this process has written a checkpoint.
    """

    supports_distributed = True

    def __init__(self, cell: Cell, files: CellFiles, built: Built) -> None:
        super().__init__()
        self._files = files
        self._hash = cell.hash
        self._packages = _packages(cell)
        self._versions = versions(cell)
        self._strategy: Any = built.strategy
        self._live = Live(built.benchmark, {"strategy": built.strategy, "checkpoints": self})
        self._minutes = cell.training.checkpoint_minutes
        self._progress: Callable[[int | None], Progress] | None = None
        self._saved_at = monotonic()
        self.has_saved = False
        self._is_last_written = False
        self._part = -1
        self._can_store = True
        self._must_end = False
        self._finishing: Thread | None = None
        built.strategy.plugins.insert(len(built.strategy.plugins) - 1, self)  # Before the clock.

    def before_training(self, strategy: Strategy, **kwargs: Any) -> None:
        """Count the parts of the experience from 0."""
        self._part = -1

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note which part of the experience is trained on."""
        self._part += 1

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Watch the loader, where training can go on in the middle."""
        self._watch()

    def after_training_iteration(self, strategy: Strategy, **kwargs: Any) -> None:
        """End here if SIGTERM has come and there is no better place."""
        if self._must_end and self._loader() is None:
            self._end()

    def _watch(self) -> None:
        loader = self._loader()
        if loader is not None:
            loader.before_batch = self._between_batches

    def _loader(self) -> TensorLoader | None:
        """The loader whose place in the data is known; None if there is none."""
        kind: Any = type(self._strategy)
        loader = self._strategy.dataloader
        while isinstance(loader, RepeatedBatches):
            loader = loader.loader
        has_usual_loop = (
            kind.training_epoch is SGDUpdate.training_epoch
            and kind._train_exp is BaseSGDTemplate._train_exp
            and kind.train is BaseSGDTemplate.train
        )
        return loader if has_usual_loop and type(loader) is TensorLoader else None

    def _between_batches(self) -> None:
        is_due = monotonic() - self._saved_at >= 60 * self._minutes
        if (is_due or self._must_end) and self._progress is not None:
            self.save(self._progress(self._part))
        if self._must_end:
            self._end(has_just_saved=True)

    @contextmanager
    def within(self, progress: Callable[[int | None], Progress]) -> Iterator[None]:
        """While an experience is trained on inside, take checkpoints within it.

        Args:
            progress: Returns where the run is, given the part of the experience.
        """
        self._progress = progress
        try:
            yield
        finally:
            self._progress = None

    @contextmanager
    def heeding_sigterm(self) -> Iterator[None]:
        """Inside, end this process at SIGTERM with a checkpoint, where nobody else handles it."""
        try:
            with _on_sigterm(self._at_sigterm):
                yield
        finally:
            self._stop_timer()
            self._finish()

    def _finish(self) -> None:
        """Wait for the disk."""
        if self._finishing:
            self._finishing.join()
            self._finishing = None

    def _at_sigterm(self) -> None:
        if self._must_end:
            return  # It comes twice where the process group and the grid both send it.
        self._must_end = True
        if self._progress is None or not hasattr(signal, "setitimer"):
            self._end()
        signal.signal(signal.SIGALRM, lambda *_: self._end())
        signal.setitimer(signal.ITIMER_REAL, _SECONDS_FOR_LAST)

    def _stop_timer(self) -> None:
        if self._must_end and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _end(self, has_just_saved: bool = False) -> NoReturn:
        """End this process, and say which checkpoint there is."""
        self._stop_timer()
        self._finish()
        path = self._files.checkpoint
        found = "the last checkpoint is kept" if path.exists() else "there is no checkpoint yet"
        if has_just_saved and self._is_last_written:
            found = "a checkpoint was written"
        print(f"ended early: {found}: {path}", file=sys.stderr, flush=True)
        raise SystemExit(_ENDED_BY_SIGTERM)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, unless something in the cell has no state that can be taken."""
        if not self._can_store:
            return
        self._finish()
        self._is_last_written = False
        try:
            state = encoded(self._root(progress), self._live.name, _WHOLE, self._packages)
        except NotStorableError as error:
            self._can_store = False
            self._files.checkpoint.unlink(missing_ok=True)
            print(
                f"{self._files.folder}: this run cannot be resumed if it is ended, but starts "
                f"anew: {error}",
                file=sys.stderr,
                flush=True,
            )
            return
        content = {
            "format": FORMAT,
            "hash": self._hash,
            "versions": self._versions,
            "progress": vars(progress),
            "state": state,
        }
        # Saved straight to a file, an error of the disk would be an obscure one of torch's.
        buffer = BytesIO()
        torch.save(content, buffer)
        self._saved_at = monotonic()
        try:
            partial = self._files.write_checkpoint(buffer.getbuffer())
        except OSError as error:
            self._say_not_written(error)
            return
        # The disk takes several times as long as all else, and training need not wait for it.
        finishing = Thread(target=self._put_in_place, args=(partial,))
        finishing.start()
        self._finishing = finishing

    def _put_in_place(self, partial: Path) -> None:
        try:
            self._files.finish_checkpoint(partial)
        except OSError as error:
            self._say_not_written(error)
            return
        self._is_last_written = self.has_saved = True

    def _say_not_written(self, error: OSError) -> None:
        print(
            f"{self._files.checkpoint}: no checkpoint could be written: {error.strerror or error}",
            file=sys.stderr,
            flush=True,
        )

    def _root(self, progress: Progress) -> dict[str, Any]:
        loader = self._loader() if progress.part is not None else None
        strategy = vars(self._strategy)
        return {
            # First, so that they are found at the same place whatever else refers to them.
            "transforms": self._live.transforms,
            "strategy": {key: strategy[key] for key in strategy if key not in _PER_ITERATION},
            "position": loader.state_dict() if loader else None,
            "generators": _generators(),
        }

    def restore(self, content: Mapping[str, Any]) -> Progress:
        """Put the cell where a checkpoint was taken, and return where that is.

        Args:
            content: What `read_checkpoint` returned.

        Raises:
            StateError: If the checkpoint does not fit this cell.
        """
        try:
            return self._restore(content)
        except (StateError, *OF_THE_MACHINE):
            raise
        # Whatever a component raises for a state that does not suit it.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise StateError(f"restoring it failed, {reason}") from error

    def _restore(self, content: Mapping[str, Any]) -> Progress:
        try:
            progress = Progress(**content["progress"])
        except (KeyError, TypeError) as error:
            raise StateError("it does not say where the run was") from error
        strategy = self._strategy
        for plugin in strategy.plugins:
            if isinstance(plugin, Schedule):
                plugin.start(strategy)
        state = restored(
            content["state"],
            {"transforms": self._live.transforms, "strategy": vars(strategy)},
            self._live.thing,
            self._packages,
            strategy.device,
        )
        vars(strategy).update(state["strategy"])
        if progress.part is not None:
            self._part = progress.part
            loader = self._loader()
            if loader is None:
                raise StateError("it was taken within an experience, with another loader")
            loader.load_state_dict(state["position"])
            self._watch()
        _set_generators(state["generators"])
        return progress


def go_on(strategy: Any, experiences: Sequence[Any], part: int, **kwargs: Any) -> None:
    """Train to the end of an experience in whose middle a checkpoint was taken.

    It is what Avalanche's `train` does from there.

    Args:
        strategy: The restored strategy.
        experiences: The parts of the experience.
        part: The one that the checkpoint was taken in.
        **kwargs: What `train` was given.
    """
    strategy.training_epoch(**kwargs)
    strategy._after_training_epoch(**kwargs)
    for _ in range(strategy.clock.train_exp_epochs, strategy.train_epochs):
        strategy._before_training_epoch(**kwargs)
        if strategy._stop_training:
            strategy._stop_training = False
            break
        strategy.training_epoch(**kwargs)
        strategy._after_training_epoch(**kwargs)
    strategy._after_training_exp(**kwargs)
    for strategy.experience in experiences[part + 1 :]:
        strategy._before_training_exp(**kwargs)
        strategy._train_exp(strategy.experience, [], **kwargs)
        strategy._after_training_exp(**kwargs)
    strategy._after_training(**kwargs)
    strategy._train_cleanup()


def read_checkpoint(files: CellFiles, cell: Cell) -> dict[str, Any] | None:
    """Return a cell's checkpoint; None if there is none of this configuration and version.

    One that cannot be used is set aside, and a line says so.

    Raises:
        OSError: If it cannot be read at present, which says nothing about it.
        MemoryError: If there is no memory for it.
    """
    path = files.checkpoint
    if not path.is_file():
        return None
    try:
        return _understood(path, cell)
    except StateError as error:
        set_aside(files, error)
        return None


def set_aside(files: CellFiles, why: object) -> None:
    """Set a checkpoint aside that cannot be used, and say so."""
    aside = files.set_checkpoint_aside()
    print(
        f"{files.checkpoint}: this checkpoint cannot be used, and the run starts anew: {why}; "
        f"it is kept as {aside.name}",
        file=sys.stderr,
        flush=True,
    )


def _understood(path: Path, cell: Cell) -> dict[str, Any]:
    # Read at once, so that no later error can be one of the disk's.
    stored = BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(stored) as archive:
            damaged = archive.testzip()
        if damaged:
            raise StateError("it is damaged")
        stored.seek(0)
        content = torch.load(stored, map_location="cpu", weights_only=True)
    except (StateError, MemoryError):
        raise
    # Whatever torch raises for bytes that it did not write.
    except Exception as error:
        raise StateError("it is cut off or damaged") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StateError("it is not a checkpoint of this version")
    if content.get("hash") != cell.hash:
        raise StateError("it is from another configuration")
    for name, now in versions(cell).items():
        then = content.get("versions", {}).get(name)
        if then != now:
            raise StateError(f"it is from {name} {then}, but this is {now}")
    return content


def _packages(cell: Cell) -> set[str]:
    """The packages that a cell's components are from."""
    targets = [part.target for each in cell.components for part in (each, *each.parts.values())]
    return {target.partition(":")[0].partition(".")[0] for target in targets}


def _generators() -> dict[str, Any]:
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"global": global_states(), "gpus": on_gpus}


def _set_generators(states: Mapping[str, Any]) -> None:
    set_global_states(states["global"])
    for device, state in enumerate(states["gpus"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)


@contextmanager
def _on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at SIGTERM, where nobody else handles it."""
    is_free = current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) in (
        signal.SIG_DFL,
        None,
    )
    if not is_free:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def file_size(path: Path) -> int:
    """Return a file's length in bytes; 0 if it is not there."""
    return os.stat(path).st_size if path.exists() else 0
