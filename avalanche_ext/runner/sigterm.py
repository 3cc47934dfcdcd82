"""SIGTERM, which schedulers send before they kill: a run ends at a good place, or soon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, local, main_thread
from typing import NoReturn

SECONDS_FOR_LAST = 3
"""Maximum wait after SIGTERM for a good place to end, such as the end of an iteration."""
ENDED_BY_SIGTERM = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM has ended."""


class EarlyEnd:
    """Requests the end of a run at SIGTERM, and ends it after some seconds if nothing else does.

    Args:
        may_wait: Returns whether a good place to end comes soon.
        end: Ends the process, by SystemExit.

    Attributes:
        is_asked_for: Whether SIGTERM was received.
    """

    def __init__(self, may_wait: Callable[[], bool], end: Callable[[], NoReturn]) -> None:
        self.is_asked_for = False
        self._may_wait = may_wait
        self._end = end

    @contextmanager
    def heeding_sigterm(self) -> Iterator[None]:
        """Make SIGTERM request the end inside this context, unless something else handles it."""
        is_free = current_thread() is main_thread() and signal.getsignal(signal.SIGTERM) in (
            signal.SIG_DFL,
            None,
        )
        if not is_free:
            yield
            return
        signal.signal(signal.SIGTERM, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self.stop_waiting()

    def stop_waiting(self) -> None:
        """Stop the timer, because the run ends now."""
        if self.is_asked_for and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ask(self, *_: object) -> None:
        if self.is_asked_for:
            return  # The process group and the grid may both send it.
        self.is_asked_for = True
        if not self._may_wait() or not hasattr(signal, "setitimer"):
            self._end()
        signal.signal(signal.SIGALRM, lambda *_: self._end())
        signal.setitimer(signal.ITIMER_REAL, SECONDS_FOR_LAST)


class _Forks(local):
    """Makes SIGTERM end processes that user code forks, such as a pool's, as without our handler.

    The signal waits during a fork, since Python drops one that comes before the child is ready.
    """

    def __init__(self) -> None:
        self._mask: set[int] | None = None

    def begin(self) -> None:
        if isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), EarlyEnd):
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def end_in_child(self) -> None:
        if self._mask is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.end()

    def end(self) -> None:
        mask, self._mask = self._mask, None
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


if hasattr(os, "register_at_fork"):
    _forks = _Forks()
    os.register_at_fork(
        before=_forks.begin, after_in_child=_forks.end_in_child, after_in_parent=_forks.end
    )
