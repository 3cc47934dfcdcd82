"""SIGTERM in a run, and in processes that user code forks from it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from avalanche_ext.runner.sigterm import ENDED_BY_SIGTERM, EarlyEnd

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def end():
    raise SystemExit(ENDED_BY_SIGTERM)


@pytest.mark.parametrize("seconds", [0, 0.2])
def test_sigterm_ends_a_forked_process_at_once(seconds):
    early_end = EarlyEnd(lambda: True, end)
    context = multiprocessing.get_context("fork")
    with early_end.heeding_sigterm():
        for _ in range(10):
            process = context.Process(target=time.sleep, args=(1000,))
            process.start()
            time.sleep(seconds)  # Without a wait, the signal often comes during the fork.
            process.terminate()
            process.join(2)
            process.kill()
            assert process.exitcode == -signal.SIGTERM
        assert not early_end.is_asked_for
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os.kill(os.getpid(), signal.SIGTERM)
        assert early_end.is_asked_for, "this process still heeds it"


def test_a_fork_keeps_a_handler_of_others():
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    try:
        with EarlyEnd(lambda: True, end).heeding_sigterm():
            pid = os.fork()
            if not pid:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    finally:
        signal.signal(signal.SIGTERM, before)
