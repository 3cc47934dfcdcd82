"""Commands whose processes are killed at random moments end with what an undisturbed one leaves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from avalanche_ext.config import Experiment
from tests.runner import resuming
from tests.runner.cases import experiment

N_MOMENTS = 30
AVALANCHES = ("Naive", "Replay", "GEM", "EWC", "LwF", "DER")
SECONDS_TO_END = 30  # A busy machine; what is promised is seconds.

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups"),
]


class Command:
    """`avalanche-ext run`, in a process group of its own.

    Args:
        folder: Where its YAML is.
        out: Folder of its results.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        words = [sys.executable, "-m", "avalanche_ext", "run", str(folder / "small.yaml")]
        words += ["--jobs", "2", "--out", str(out)]
        self._log = folder / "log.txt"
        with self._log.open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def runs(self) -> bool:
        """Return whether the command is running."""
        return self.process.poll() is None

    def processes(self) -> dict[int, int]:
        """The parents of the processes of this command that are alive, its own among them."""
        listed = subprocess.run(
            ["ps", "-eo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True
        )
        rows = [line.split() for line in listed.stdout.splitlines()]
        group = str(self.process.pid)
        return {int(row[0]): int(row[1]) for row in rows if row[2] == group and row[3][0] != "Z"}

    def workers(self) -> list[int]:
        """The processes that the server has forked: they alone have a child of the main's."""
        parents = self.processes()
        servers = {pid for pid, parent in parents.items() if parent == self.process.pid}
        return [pid for pid, parent in parents.items() if parent in servers]

    def kill(self, target: str, number: signal.Signals, drawn: random.Random) -> None:
        """Send a signal to the main process, to one worker, or to all processes."""
        if target == "worker":
            workers = self.workers()
            if workers:
                send(os.kill, drawn.choice(workers), number)
            return
        send(os.killpg if target == "all" else os.kill, self.process.pid, number)
        self.process.wait(SECONDS_TO_END)

    def leaves_no_process(self) -> bool:
        """Return whether all processes of the command are gone, or go within seconds."""
        deadline = time.monotonic() + SECONDS_TO_END
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.processes()

    def said(self) -> str:
        """What this command and those before it have printed."""
        return self._log.read_text("utf-8")


def send(kill: Callable[[int, int], None], pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # It may have ended by itself.
        kill(pid, number)


class Witness:
    """Remembers what was finished, and finds what has been trained on again."""

    def __init__(self, grid: Experiment, out: Path) -> None:
        self._cells = {cell.method_name: cell.files(out) for cell in grid.cells()}
        self._results: dict[str, bytes] = {}
        self._events: dict[str, bytes] = {}

    def look(self) -> None:
        """Compare results, and events until the last checkpoint, with those seen before.

        Both have times in them, so that a second training would leave others.
        """
        for name, files in self._cells.items():
            result, events = files.folder / "result.json", files.folder / "events.jsonl"
            if name in self._results:
                assert result.read_bytes() == self._results[name], name
            if name in self._events:
                assert events.read_bytes().startswith(self._events[name]), name
            if result.exists():
                self._results[name], self._events[name] = result.read_bytes(), events.read_bytes()
            elif files.checkpoint.exists():
                taken = torch.load(files.checkpoint, weights_only=True)["progress"]
                self._events[name] = events.read_bytes()[: taken["n_bytes"]]
            # Also of another configuration, as after an edit of a default while this test runs.
            assert not [*files.folder.glob("checkpoint-*")], name

    def n_finished(self) -> int:
        return len(self._results)


def left_over(out: Path) -> list[Path]:
    """Partial files of cells, checkpoints, failures, and what was set aside.

    A partial file of a report goes when the same report is written an hour later.
    """
    partial = [path for path in out.rglob(".*") if path.name != ".claims" and "seed-" in str(path)]
    aside = [path for path in out.rglob("*-*") if path.is_file() and path.suffix != ".lock"]
    return [*partial, *aside, *out.rglob("*.pt"), *out.rglob("failure.json")]


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    """The commands of a test, which are ended with it."""
    begun: list[Command] = []
    yield begun
    for each in begun:
        if each.processes():
            send(os.killpg, each.process.pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [0])
def test_a_grid_that_is_killed_at_random_moments_ends_as_if_it_had_not(tmp_path, commands, seed):
    methods = {**resuming.OURS, **{name: resuming.AVALANCHES[name] for name in AVALANCHES}}
    training = {"batch_size": 5, "epochs": 20, "checkpoint_minutes": 0.002}
    grid = experiment(tmp_path, methods=methods, seeds=1, training=training)
    whole, out = tmp_path / "whole", tmp_path / "out"

    def begun(out: Path) -> Command:
        commands.append(Command(tmp_path, out))
        return commands[-1]

    start = time.monotonic()
    assert begun(whole).process.wait() == 0
    longest = (time.monotonic() - start) / 12  # So that moments lie in all cells.
    drawn, done, witness = random.Random(seed), [], Witness(grid, out)
    command, n_in_cells = begun(out), 0
    for _ in range(N_MOMENTS):
        target = drawn.choice(["main", "worker", "all"])
        number = drawn.choice([signal.SIGKILL, signal.SIGTERM])
        seconds, is_in_cell = drawn.uniform(0, longest), drawn.random() < 0.8
        if not command.runs():
            assert command.leaves_no_process(), (seed, done)
            witness.look()
            command = begun(out)
        while (is_in_cell or target == "worker") and command.runs() and not command.workers():
            time.sleep(0.05)
        time.sleep(seconds)
        n_in_cells += bool(command.workers())
        done.append((target, number.name, f"{seconds:.1f} s", witness.n_finished()))
        command.kill(target, number, drawn)
    print(f"seed {seed}", *done, sep="\n")
    for _ in range(3):  # A cell whose worker is killed twice counts as failed in that command.
        if command.process.wait() == 0:
            break
        assert command.leaves_no_process()
        witness.look()
        command = begun(out)
    assert command.process.wait() == 0, command.said()
    assert command.leaves_no_process()
    witness.look()
    assert witness.n_finished() == len(methods)
    for cell in grid.cells():
        assert resuming.left_by(cell, out) == resuming.left_by(cell, whole), cell.method_name
    assert left_over(out) == []
    assert "Traceback" not in command.said()
    assert n_in_cells >= N_MOMENTS / 3
