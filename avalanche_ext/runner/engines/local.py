"""One process per call on this machine, forked from a server that has already imported torch."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import (
    connection,
    forkserver,
    get_context,
    parent_process,
    resource_tracker,
)
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from types import ModuleType, TracebackType
from typing import Any

from avalanche_ext.runner.engines.base import R

FOR_WANDB = (
    "wandb.sdk.launch.inputs.internal",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "avalanche_ext.runner.engines.picture",
)
"""Modules that a cell needs only if it is logged to wandb."""
FOR_DIGITS = ("avalanche_ext.runner.engines.digits",)
"""Modules that a cell needs only if it learns scikit-learn's digits."""

FOR_COMPILED = ("torch._inductor.compile_fx",)
"""Modules that a cell needs only if its steps are compiled."""

# All that a cell imports. What its first wandb run does takes five times as long after torch.
_PRELOADED = (
    "avalanche_ext.runner.engines.server",
    "wandb",
    *FOR_WANDB[:-1],
    "torch",
    "avalanche.training",
    "avalanche_ext.benchmarks.build",
    "avalanche_ext.models.catalogue",
    "avalanche_ext.runner.cell",
    *FOR_WANDB[-1:],
    *FOR_DIGITS,
    *FOR_COMPILED,
)
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
_SECONDS_TO_END = 10.0
"""Time for a worker to end by itself after SIGTERM or its answer, before SIGKILL."""
_PR_SET_PDEATHSIG = 1

# Starting a process polls all children, which is not thread-safe in multiprocessing.
_LOCK = Lock()


class WorkerDied(Exception):
    """A worker process ended without an answer."""


class LocalEngine:
    """Runs each call in its own process, which ends with this process.

    On Linux the processes are forked from one server. The server has imported torch and Avalanche,
    and uses neither threads nor CUDA, so a worker starts in milliseconds. On other systems each
    process is spawned.

    Args:
        jobs: Number of calls that run at the same time.
        devices: Entries of CUDA_VISIBLE_DEVICES. If there are any, workers use them in turn, and
            each worker sees one as its only GPU.
        unneeded: Modules needed only by some cells, which the server need not import.
    """

    died: tuple[type[Exception], ...] = (WorkerDied,)
    is_here = True
    imports_first = True

    def __init__(
        self, jobs: int, devices: Sequence[str] = (), unneeded: Collection[str] = ()
    ) -> None:
        self.n_workers = jobs
        self._context = _context(unneeded)
        self._pool = ThreadPoolExecutor(jobs)
        self._slots: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in range(jobs):
            device = {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if devices else {}
            self._slots.put(device)
        self._processes: set[BaseProcess] = set()
        self._is_closed = False

    def __enter__(self) -> LocalEngine:
        """Start the server, which imports torch while the caller continues."""
        with _LOCK, _environment(_ONE_THREAD):
            self._ensure_server()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with _LOCK:
                self._is_closed = True
                for process in self._processes:
                    process.terminate()
            self._pool.shutdown(wait=False, cancel_futures=True)
            deadline = monotonic() + _SECONDS_TO_END
            while self._processes and monotonic() < deadline:
                connection.wait([process.sentinel for process in [*self._processes]], timeout=0.1)
        finally:  # Even after a second Ctrl-C.
            with _LOCK:
                self._is_closed = True
                for process in self._processes:
                    process.kill()
            self._pool.shutdown(cancel_futures=True)

    def _ensure_server(self) -> None:
        """Start the server, if there is none, so that it survives a SIGTERM to all processes.

        Otherwise its workers would end with it, without time for a checkpoint.
        """
        if self._context.get_start_method() != "forkserver":
            return
        resource_tracker.ensure_running()  # Starting it unblocks SIGTERM, so it comes first.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Schedule a call of a module's function with picklable arguments."""
        return self._pool.submit(self._call, function, args)

    def lack(self) -> str:
        """Return nothing: processes can always be started here."""
        return ""

    def _call(self, function: Callable[..., R], args: tuple[Any, ...]) -> R:
        slot = self._slots.get()
        try:
            return self._call_in(slot, function, args)
        finally:
            self._slots.put(slot)

    def _call_in(
        self, slot: Mapping[str, str], function: Callable[..., R], args: tuple[Any, ...]
    ) -> R:
        answers, answer = self._context.Pipe(duplex=False)
        environment = {**os.environ, **_ONE_THREAD, **slot}
        with _LOCK:
            if self._is_closed:
                raise WorkerDied("the engine is closed")
            process = self._context.Process(  # type: ignore[attr-defined]
                target=_work, args=(answer, environment, function, args)
            )
            with _without_main(), _environment(_ONE_THREAD):
                self._ensure_server()
                process.start()
            self._processes.add(process)
        answer.close()
        try:
            result: R = answers.recv()
        except (EOFError, OSError):
            raise WorkerDied("a worker process ended without an answer") from None
        finally:
            answers.close()
            if not connection.wait([process.sentinel], _SECONDS_TO_END):
                process.kill()  # A user's thread may never end.
                connection.wait([process.sentinel])
            with _LOCK:
                process.join()
                self._processes.discard(process)
        return result


def _context(unneeded: Collection[str]) -> BaseContext:
    # On macOS, system frameworks and their threads can make forks hang.
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([name for name in _PRELOADED if name not in unneeded])
    return context


def _work(
    answer: connection.Connection,
    environment: Mapping[str, str],
    function: Callable[..., R],
    args: tuple[Any, ...],
) -> None:
    """Run the function in this new process, and send its result."""
    # Garbage collection would touch all imported objects and so copy the server's pages.
    gc.freeze()
    gc.enable()
    parent = parent_process()
    assert parent is not None
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":
        # If the server dies, nobody would notice how this process ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The signal mask inherited from the server blocks it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    # Ctrl-C reaches all processes of a terminal; the main one stops the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The server still has the environment of its start.
    os.environ.clear()
    os.environ.update(environment)
    answer.send(function(*args))


def _end_with(parent: BaseProcess) -> None:
    connection.wait([parent.sentinel])
    # SIGKILL, because no handler or clean-up may delay the end: the grid is gone.
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which a new process would import although no worker needs it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
