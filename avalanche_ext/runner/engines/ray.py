"""Calls as tasks of a Ray cluster."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from avalanche_ext.runner.engines.base import R
from avalanche_ext.runner.preflight import PreflightError

_RETRIES = 1
"""How often Ray itself retries a task whose worker or node has died."""


class RayEngine:
    """Runs calls on the workers of a Ray cluster, which must see the same files.

    Args:
        jobs: Number of workers of a cluster on this machine, if there is no scheduler.
        scheduler: Address of the cluster, such as auto, host:6379 or ray://host:10001, or None.
        threads: Threads, and so CPUs, of each call.
        on_gpu: Whether each call needs its own GPU.

    Raises:
        PreflightError: If the cluster does not answer, or this machine cannot run a call.
    """

    died: tuple[type[Exception], ...] = (WorkerCrashedError, NodeDiedError, OutOfMemoryError)
    imports_first = False

    def __init__(self, jobs: int, scheduler: str | None, threads: int, on_gpu: bool) -> None:
        self.is_here = scheduler is None
        self._n_cpus = jobs * threads
        self._scheduler = scheduler
        self._needs = {"num_cpus": threads, "num_gpus": int(on_gpu), "max_retries": _RETRIES}

    def __enter__(self) -> RayEngine:
        local = {} if self._scheduler else {"num_cpus": self._n_cpus, "include_dashboard": False}
        try:
            with _keeping_sigterm():
                ray.init(address=self._scheduler or "local", log_to_driver=False, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = (
                f"--scheduler {self._scheduler}: no Ray cluster answers there"
                if self._scheduler
                else "--backend ray: no Ray cluster can be started on this machine"
            )
            raise PreflightError(f"{reason} ({error})") from error
        if self._scheduler is None and (lack := self.lack()):
            ray.shutdown()
            raise PreflightError(f"--backend ray: {lack}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ray.shutdown()

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Schedule a call of a module's function with picklable arguments."""
        task = ray.remote(**self._needs)(_ended_by_sigterm)
        future: Future[R] = task.remote(function, args).future()
        return future

    def lack(self) -> str:
        """Return the CPUs and GPUs that no node has enough of; empty if a node has enough."""
        needs = {"CPU": self._needs["num_cpus"], "GPU": self._needs["num_gpus"]}
        for node in ray.nodes():
            has = node["Resources"]
            if node["Alive"] and all(has.get(kind, 0) >= n for kind, n in needs.items()):
                return ""
        wanted = " and ".join(
            f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in needs.items() if n
        )
        return f"a cell needs {wanted}, and no node of the Ray cluster has that many"


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Restore this process's handling of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, before)


def _ended_by_sigterm(function: Callable[..., R], args: tuple[Any, ...]) -> R:
    """Run a function that handles SIGTERM itself, instead of Ray."""
    with _keeping_sigterm():
        if current_thread() is main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return function(*args)
