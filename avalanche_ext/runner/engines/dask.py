"""Calls as futures of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import dask
from distributed import Client, KilledWorker, LocalCluster

from avalanche_ext.runner.engines.base import R
from avalanche_ext.runner.preflight import PreflightError

_SECONDS_TO_CONNECT = 30


class DaskEngine:
    """Runs calls on the workers of a Dask cluster, which must see the same files.

    A scheduler that runs already gives a call whose worker dies to another worker, as often as its
    `distributed.scheduler.allowed-failures` says, three times unless it is set.

    Args:
        jobs: Workers of a cluster on this machine, where there is no scheduler.
        scheduler: Address of the scheduler, such as tcp://host:8786, or None.

    Raises:
        PreflightError: If the scheduler does not answer.
    """

    died: tuple[type[Exception], ...] = (KilledWorker,)

    def __init__(self, jobs: int, scheduler: str | None) -> None:
        self._jobs = jobs
        self._scheduler = scheduler

    def __enter__(self) -> DaskEngine:
        self._cluster = None
        if self._scheduler is None:
            # Whoever calls knows better than Dask when to try again.
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                self._cluster = LocalCluster(
                    n_workers=self._jobs, threads_per_worker=1, dashboard_address=None
                )
        try:
            address = self._cluster or self._scheduler
            self._client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise PreflightError(
                f"--scheduler {self._scheduler}: no Dask scheduler answers there ({error})"
            ) from error
        self._executor = self._client.get_executor(pure=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=False)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def submit(self, function: Callable[..., R], *args: Any) -> Future[R]:
        """Run a function of a module, soon, with arguments that can be pickled."""
        future: Future[R] = self._executor.submit(function, *args)
        return future
