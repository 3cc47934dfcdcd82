"""Functions for worker processes, which import them by name: they die, or report."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.worker import run_claimed
from tests.runner.cases import RESULT


def killed_in_ber(cell, out, data_root):
    """`run_claimed`, but the workers of one cell are killed, as for lack of memory."""
    if cell.method_name == "ber" and cell.seed == 0:
        note_and_die(out / "killed", cell)
    return run_claimed(cell, out, data_root)


def killed_once(cell, out, data_root):
    """`run_claimed`, but the first worker of one cell is killed after it has begun."""
    if cell.method_name == "ber" and cell.seed == 0 and not (out / "killed").exists():
        note_and_die(out / "killed", cell)
    return run_claimed(cell, out, data_root)


def note_and_die(note, cell):
    with note.open("a") as file:
        file.write(f"{cell.method_name} {cell.seed}\n")
    cell.files(note.parent).begin()
    os.kill(os.getpid(), signal.SIGKILL)


def whoami():
    """The process, its threads, its GPUs, and what it found imported and collected."""
    import gc
    import sys

    return {
        "pid": os.getpid(),
        "threads": threading.active_count(),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "mark": os.environ.get("AVALANCHE_EXT_TEST"),
        "torch": "torch" in sys.modules,
        "collects": gc.isenabled(),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
    }


def imports(cell, out):
    """Run a cell; the modules that it had to import, and what the server left to the collector.

    These are the objects that no collection visits, and the collections that it has had.
    """
    import gc
    import sys

    before = {*sys.modules}
    server = gc.get_freeze_count(), sum(each["collections"] for each in gc.get_stats())
    run_claimed(cell, out, None)
    return {*sys.modules} - before, *server


def sleep(note: Path):
    """Note this process, and last for minutes."""
    note.with_name(f"{note.name}.{os.getpid()}").touch()
    time.sleep(300)


def write_when_ended(note: Path):
    """Note this process, and write its end a second after SIGTERM, as a checkpoint takes time."""

    def end(*_):
        time.sleep(1)
        note.with_name("ended").touch()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    sleep(note)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang_at_exit():
    """Leave a thread that Python waits for."""
    threading.Thread(target=time.sleep, args=(300,)).start()
    return "done"


def add(a, b):
    return a + b


def fail():
    raise ValueError("no")


def done_and_set_aside(cell, out, data_root):
    """Write a result, which a command with another configuration then sets aside."""
    files = cell.files(out)
    files.begin()
    files.write_result(RESULT)
    CellFiles(out, {**cell.resolved(), "hash": "0123456789abcdef"}).begin()
    return "done", ""


def done_but_nothing_written(cell, out, data_root):
    """Say that it is done, as a worker whose results folder is another one."""
    return "done", ""


def note_data_root(cell, out, data_root):
    """Write, as a result, which folder of data the worker is to use."""
    files = cell.files(out)
    files.begin()
    files.write_result({**RESULT, "data_root": str(data_root)})
    return "done", ""


def note_device(cell, out, data_root):
    """Write, as a result, the GPUs that the worker sees and what the cell asks for."""
    files = cell.files(out)
    files.begin()
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    files.write_result({**RESULT, "visible": seen, "device": cell.training.device})
    return "done", ""
