"""Calls as futures of a Dask cluster."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from multiprocessing import current_process
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any
from uuid import uuid4

import dask
from distributed import (
    Client,
    KilledWorker,
    LocalCluster,
    Reschedule,
    Status,
    Worker,
    WorkerPlugin,
    get_worker,
)

from avalanche_ext.results.files import one_line
from avalanche_ext.runner.engines.base import R
from avalanche_ext.runner.engines.local import LocalEngine, WorkerDied
from avalanche_ext.runner.preflight import PreflightError

_CLOSING = (Status.closing, Status.closing_gracefully, Status.closed)
_SECONDS_TO_CONNECT = 30
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_FOR_SIGTERM = 2.0
"""Maximum delay after which a Dask worker learns of a SIGTERM that its call received too."""


class DaskEngine:
    """Runs calls on the workers of a Dask cluster, which must see the same files.

    Each call runs in its own process, as with `LocalEngine`, which the worker ends by SIGTERM when
    it closes or this process is gone. If a worker dies, an existing scheduler gives its call to
    another one, up to `distributed.scheduler.allowed-failures` times, three by default.

    Args:
        jobs: Number of workers of a cluster on this machine, if there is no scheduler.
        scheduler: Address of the scheduler, such as tcp://host:8786, or None.

    Raises:
        PreflightError: If the scheduler does not answer, or its workers lack this package.
    """

    died: tuple[type[Exception], ...] = (KilledWorker, WorkerDied)
    imports_first = False

    def __init__(self, jobs: int, scheduler: str | None) -> None:
        self.is_here = scheduler is None
        self._jobs = jobs
        self._scheduler = scheduler

    def __enter__(self) -> DaskEngine:
        with ExitStack() as opened:
            address = self._scheduler or opened.enter_context(self._local_cluster())
            try:
                client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
            except (OSError, ValueError) as error:
                raise PreflightError(
                    f"--scheduler {self._scheduler}: no Dask scheduler answers there ({error})"
                ) from error
            self._client = opened.enter_context(client)
            self._keep_in_order(opened)
            self._executor = client.get_executor(pure=False)
            opened.callback(self._executor.shutdown, wait=False)
            self._opened = opened.pop_all()
        return self

    def _local_cluster(self) -> LocalCluster:
        # The caller, not Dask, decides when to retry.
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            try:
                return LocalCluster(
                    n_workers=self._jobs, threads_per_worker=1, dashboard_address=None
                )
            except (OSError, RuntimeError) as error:
                raise PreflightError(
                    f"--backend dask: no cluster can be started on this machine ({error})"
                ) from error

    def _keep_in_order(self, opened: ExitStack) -> None:
        """Install our plugin on the workers until the engine is closed."""
        plugin = _Orderly()
        opened.callback(self._remove, plugin)
        try:
            self._client.register_plugin(plugin)
        except Exception as error:  # A worker that cannot import the plugin may raise anything.
            where = f"--scheduler {self._scheduler}" if self._scheduler else "--backend dask"
            raise PreflightError(
                f"{where}: its workers cannot use avalanche-ext ({one_line(error)})"
            ) from error

    def _remove(self, plugin: _Orderly) -> None:
        if self._scheduler and self._client.status == "running":
            with suppress(Exception):  # A worker may be shutting down.
                self._client.unregister_worker_plugin(plugin.name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Schedule a call of a module's function with picklable arguments."""
        future: Future[R] = self._executor.submit(_alone, function, args)
        return future

    def lack(self) -> str:
        """Return a reason if there are no workers."""
        has_workers = bool(self._client.scheduler_info()["workers"])
        return "" if has_workers else "the Dask scheduler has none"


class _Orderly(WorkerPlugin):  # type: ignore[misc]
    """Lets a worker survive a SIGTERM to all processes until its nanny has closed it properly."""

    def __init__(self) -> None:
        self.name = f"avalanche_ext-{uuid4().hex}"  # Other commands may use the same workers.

    def setup(self, worker: Worker) -> None:
        """Ignore SIGTERM in a worker that would otherwise end at once together with its calls."""
        is_in_main = current_thread() is main_thread()
        if worker.nanny and is_in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _ignore)  # SIG_IGN would be inherited.

    def teardown(self, worker: Worker) -> None:
        """Let a worker end at SIGTERM again, unless it is closing or works for others too."""
        is_needed = any(isinstance(each, _Orderly) for each in worker.plugins.values())
        is_needed |= worker.status in _CLOSING
        if not is_needed and signal.getsignal(signal.SIGTERM) is _ignore:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _ignore(*_: object) -> None:
    pass


def _alone(function: Callable[..., R], args: tuple[Any, ...]) -> R | None:
    """Run a function in a new process of this worker; None if nobody waits for its result.

    Raises:
        Reschedule: If the worker closes meanwhile: the scheduler gives the call to another.
    """
    # Daemonic workers may not have children, but LocalEngine's children never outlive their parent.
    current_process().daemon = False
    worker = get_worker()
    key = worker.get_current_task()
    with LocalEngine(1) as workers:
        future = workers.submit(function, *args)
        while not wait([future], _SECONDS_BETWEEN_LOOKS).done:
            if worker.status in _CLOSING:
                raise Reschedule
            if not _is_awaited(worker, key):
                return None
    try:
        return future.result()
    except WorkerDied:
        time.sleep(_SECONDS_FOR_SIGTERM)
        while worker.status in _CLOSING:  # Dask will give the call to another worker.
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        raise


def _is_awaited(worker: Worker, key: Any) -> bool:
    """Return whether a task's client is still there."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"
