"""The interface of engines, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from avalanche_ext.runner.preflight import PreflightError

R = TypeVar("R")

BACKENDS = ("local", "dask", "ray")


class Engine(AbstractContextManager["Engine"], Protocol):
    """Runs functions in other processes, each process one at a time.

    When its `with` block ends, even with an error, calls that are still running are stopped.

    Attributes:
        died: Errors of a future which mean that the process running its function is gone.
        is_here: Whether the processes run on this machine, and so see the same files.
        imports_first: Whether they import torch and Avalanche before a call begins, so that this
            process never has to.
    """

    died: tuple[type[Exception], ...]
    is_here: bool
    imports_first: bool

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Schedule a call of a module's function with picklable arguments."""

    def lack(self) -> str:
        """Return what prevents calls from starting; empty if nothing does."""


def engine(
    backend: str = "local",
    jobs: int | None = None,
    scheduler: str | None = None,
    devices: Sequence[str] = (),
    threads: int = 1,
    n_gpus: int = 0,
    unneeded: Collection[str] = (),
) -> Engine:
    """Return an engine that its `with` block starts.

    Args:
        backend: One of BACKENDS.
        jobs: Number of workers on this machine, at least 1; None: one for each of `devices`,
            otherwise as many as the cores allow, but at most `n_gpus` if calls need a GPU.
        scheduler: Address of a cluster's scheduler; None for a cluster on this machine.
        devices: The entries of CUDA_VISIBLE_DEVICES that local workers use in turn.
        threads: Threads of each worker.
        n_gpus: Number of GPUs that the calls name; 0 if they need none. Ray instead chooses a free
            one for each call.
        unneeded: What a local engine need not import before the calls; see `LocalEngine`.

    Raises:
        PreflightError: If the arguments contradict each other or a package is missing.
    """
    if backend == "local" and scheduler:
        raise PreflightError(
            f"--scheduler {scheduler}: name the cluster's kind, --backend dask or ray"
        )
    if scheduler and jobs:
        raise PreflightError(
            f"--jobs {jobs}: with --scheduler, the cluster decides how many cells run"
        )
    if devices and backend != "local":
        raise PreflightError(
            f"--devices works with --backend local; give the workers of {backend} their devices"
        )
    default = max(1, n_cores() // threads)
    if n_gpus and backend != "ray":
        default = min(default, n_gpus)
    jobs = jobs or len(devices) or default
    try:
        if backend == "dask":
            from avalanche_ext.runner.engines.dask import DaskEngine

            return DaskEngine(jobs, scheduler)
        if backend == "ray":
            from avalanche_ext.runner.engines.ray import RayEngine

            return RayEngine(jobs, scheduler, threads, n_gpus > 0)
    except ImportError as error:
        raise PreflightError(
            f"--backend {backend} needs extra packages ({error}): "
            f'pip install "avalanche-ext[{backend}]"'
        ) from error
    from avalanche_ext.runner.engines.local import LocalEngine

    return LocalEngine(jobs, devices, unneeded)


def n_cores() -> int:
    """Return the number of cores this process may use; a cluster may allow fewer than exist."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
