"""An interrupted run resumes from its checkpoint, with the same result as uninterrupted."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from avalanche_ext.config.catalogue import OURS
from avalanche_ext.data import joined
from avalanche_ext.runner import checkpoint
from avalanche_ext.runner.cell import run_cell
from avalanche_ext.runner.checkpoint import Checkpoints
from avalanche_ext.runner.machine import is_of_machine
from avalanche_ext.state import NotStorableError
from avalanche_ext.strategies import repairs
from tests.runner import resuming
from tests.runner.resuming import (
    AVALANCHES,
    RECIPES,
    REPLAY,
    begun,
    left_by,
    progress,
    run,
    run_until,
    small,
    wait_for,
)


def check_resumed(tmp_path, monkeypatch, method, n_times_within=2, **changed):
    """Compare a run with one that is ended after an experience and within each of two."""
    whole = small(tmp_path, method, **changed)
    run(whole, tmp_path / "whole")
    expected = left_by(whole, tmp_path / "whole")
    between = tmp_path / "between"
    assert run_until(whole, between, monkeypatch, 1)
    assert whole.files(between).checkpoint.exists()
    run(whole, between)
    assert left_by(whole, between) == expected
    assert not whole.files(between).checkpoint.exists()
    within = tmp_path / "within"
    n_ended = [run_until(whole, within, monkeypatch, n_batches=n) for n in (5, 9, 27)]
    assert sum(n_ended) >= n_times_within
    if not whole.files(within).is_done():
        run(whole, within)
    assert left_by(whole, within) == expected


@pytest.mark.parametrize("name", resuming.OURS)
def test_our_plugins_go_on_bit_for_bit(tmp_path, monkeypatch, name):
    check_resumed(tmp_path, monkeypatch, resuming.OURS[name])


@pytest.mark.parametrize("name", AVALANCHES)
def test_strategies_of_avalanche_go_on_bit_for_bit(tmp_path, monkeypatch, name):
    # Strategies with loaders of their own go on from the beginning of an experience.
    n_times_within = 0 if name in ("Replay", "DER") else 2
    check_resumed(tmp_path, monkeypatch, AVALANCHES[name], n_times_within)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_and_streams_go_on_bit_for_bit(tmp_path, monkeypatch, name):
    check_resumed(tmp_path, monkeypatch, {"plugins": [REPLAY, "drl"]}, **RECIPES[name])


def test_hal_as_in_its_official_code_resumes_bit_for_bit(tmp_path, monkeypatch):
    options = {"size_per_class": 2, "replayed": "earlier", "n_anchors": 2, "first_anchors": "last"}
    options |= {"rescale": True, "means": "from_zero", "embedding_decay": 0.5}
    short = {"hindsight_steps": 3, "anchor_steps": 3}
    check_resumed(tmp_path, monkeypatch, {"plugins": [{"hal": {**options, **short}}]})


def test_every_plugin_of_ours_is_among_them():
    used = {
        next(iter(each)) if isinstance(each, dict) else each
        for method in resuming.OURS.values()
        for each in method["plugins"]
    }
    # Its losses come from another package; its state is that of the other metric losses.
    assert set(OURS["plugin"]) - used == {"metric_loss", "spectrum_analysis"}


def note_training(monkeypatch) -> list[int]:
    """Return a list to which every experience that is trained on from here is added."""
    trained: list[int] = []
    within = Checkpoints.within
    monkeypatch.setattr(
        Checkpoints,
        "within",
        lambda self, now: trained.append(now(None).n_done) or within(self, now),
    )
    return trained


def test_what_was_finished_is_not_trained_again(tmp_path, monkeypatch):
    one = small(tmp_path, {"plugins": [REPLAY]}, benchmark={**resuming.DIGITS, "n_experiences": 5})
    assert run_until(one, tmp_path, monkeypatch, 3)
    trained = note_training(monkeypatch)
    run(one, tmp_path)
    assert trained == [3, 4]


@pytest.mark.parametrize(
    ("method", "after"),
    [
        ({"plugins": [REPLAY]}, {"n_batches": 5}),
        ({"strategy": "avalanche:JointTraining"}, {"n_experiences": 1}),
        ({"strategy": "avalanche:Cumulative"}, {"n_experiences": 2}),
    ],
    ids=["replay", "joint", "cumulative"],
)
def test_a_checkpoint_is_plain_and_holds_no_data_set(tmp_path, monkeypatch, method, after):
    monkeypatch.setattr(joined, "_LARGE", 0)
    sizes = []
    for train_size in (60, 180):
        out = tmp_path / str(train_size)
        benchmark = {**resuming.DIGITS, "train_size": train_size}
        one = small(tmp_path, method, benchmark=benchmark)
        assert run_until(one, out, monkeypatch, **after)
        path = one.files(out).checkpoint
        assert torch.load(path, weights_only=True)["hash"] == one.hash
        sizes.append(path.stat().st_size)
    # The order of the rows and their labels, but not 120 images, which take 30 kB.
    assert abs(sizes[1] - sizes[0]) < 12_000


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A cell that was ended after its first experience, its folder, and what it leaves at last."""
    folder = tmp_path_factory.mktemp("ended")
    one = small(folder, {})
    run(one, folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        assert run_until(one, folder / "out", patch, 1)
    return one, folder / "out", left_by(one, folder / "whole")


@pytest.fixture
def ended_here(ended, tmp_path):
    """The same, in a folder of the test's own."""
    one, out, expected = ended
    shutil.copytree(out, tmp_path / "out")
    return one, tmp_path / "out", expected


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "events":
        events = path.with_name("events.jsonl")
        events.write_text(events.read_text("utf-8").replace("experience", "experiment"), "utf-8")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a checkpoint")
    else:
        stored = torch.load(path, weights_only=True)
        stored |= {
            "hash": {"hash": "0123456789abcdef"},
            "version": {"versions": {**stored["versions"], "torch": "1.0"}},
            "format": {"format": 99},
            "progress": {"progress": {}},
            "a length": {"progress": {**stored["progress"], "n_bytes": "x"}},
            "seconds": {"progress": {**stored["progress"], "seconds": [1]}},
            "versions": {"versions": []},
            "state": {"state": {"format": 2, "root": (0,), "nodes": [["global", "os:system"]]}},
        }[how]
        torch.save(stored, path)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("cut", "cut off or damaged"),
        ("empty", "cut off or damaged"),
        ("text", "cut off or damaged"),
        ("hash", "from another configuration"),
        ("version", "it is from torch 1.0, but this is"),
        ("format", "not a checkpoint of this version"),
        ("progress", "does not contain the position of the run"),
        ("a length", "does not contain the position of the run"),
        ("seconds", "does not contain the position of the run"),
        ("versions", "does not name its versions"),
        ("events", "its lines of events.jsonl are missing"),
        ("state", "mentions os:system"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_set_aside(ended_here, capsys, how, why):
    one, out, expected = ended_here
    damaged(one.files(out).checkpoint, how)
    capsys.readouterr()
    run(one, out)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "this checkpoint cannot be used, and the run starts over" in said
    assert why in said
    assert (one.directory(out) / "checkpoint-unusable-1.pt").exists()
    assert left_by(one, out) == expected


def test_a_run_goes_on_when_its_configuration_comes_back(ended_here, tmp_path, monkeypatch):
    """Another configuration that ran in between, and was ended too, takes nothing from it."""
    one, out, expected = ended_here
    other = small(tmp_path, {}, optimizer={"name": "SGD", "lr": 0.01})
    assert other.hash != one.hash
    assert run_until(other, out, monkeypatch, 1)
    trained = note_training(monkeypatch)
    run(one, out)
    run(other, out)
    assert trained == [1, 1]
    one.files(out).bring_back()
    assert left_by(one, out) == expected
    assert not [*out.rglob("*.pt")]


def test_what_cannot_be_resumed_says_so_once_and_starts_over(tmp_path, monkeypatch, capsys):
    method = {
        "strategy": "avalanche:MIR",
        "args": {"mem_size": 40, "subsample": 10, "batch_size_mem": 5},
    }
    one = small(tmp_path, method, benchmark={**resuming.DIGITS, "n_experiences": 5})
    run(one, tmp_path / "whole")
    said = capsys.readouterr().err
    assert said.count("no checkpoint can be taken after an experience") == 1
    assert said.rstrip().endswith("if the run is ended there, it starts over")
    assert f"/seed-0: {repairs.MIRPlugin.__name__}.replay_loader is a generator" in said
    assert run_until(one, tmp_path / "cut", monkeypatch, 3)
    assert not one.files(tmp_path / "cut").checkpoint.exists()
    run(one, tmp_path / "cut")
    assert left_by(one, tmp_path / "cut") == left_by(one, tmp_path / "whole")


@pytest.mark.parametrize(
    ("error", "n_done"),
    [(ValueError("no"), 0), (RuntimeError("CUDA error: unspecified launch failure"), 1)],
)
def test_a_run_that_fails_after_resuming_starts_over_unless_the_machine_failed(
    ended_here, monkeypatch, error, n_done
):
    one, out, _ = ended_here

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("avalanche_ext.runner.cell.diagnostics", fail)
        assert run_cell(one, out, None) == "failed"
    trained = note_training(monkeypatch)
    run(one, out)
    assert trained[0] == n_done


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (OSError(5, "Input/output error"), True),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), True),
        (RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu"), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_of_the_machine_are_distinguished_from_others(error, is_so):
    assert is_of_machine(error) is is_so


def test_a_state_that_cannot_be_taken_within_an_experience_costs_no_checkpoint(
    ended_here, monkeypatch, capsys
):
    one, out, expected = ended_here
    before = one.files(out).checkpoint.read_bytes()
    root = Checkpoints._root

    def within_is_a_generator(self, progress):
        if progress.part is not None:
            assert one.files(out).checkpoint.read_bytes() == before
            raise NotStorableError("Mine.samples is a generator, which cannot be stored")
        return root(self, progress)

    monkeypatch.setattr(Checkpoints, "_root", within_is_a_generator)
    monkeypatch.setattr(
        "avalanche_ext.runner.checkpoint.monotonic", itertools.count(0, 1e6).__next__
    )
    run(one, out)
    said = capsys.readouterr().err
    assert said == (
        f"{one.directory(out)}: Mine.samples is a generator, which cannot be stored, so no "
        "checkpoint can be taken within an experience; if the run is ended there, it resumes from "
        "checkpoint.pt\n"
    )
    assert left_by(one, out) == expected


def test_the_time_between_checkpoints_does_not_change_the_hash(tmp_path):
    assert small(tmp_path, {}, 1).hash == small(tmp_path, {}, 20).hash


def test_a_process_that_is_killed_or_ended_goes_on(tmp_path):
    """SIGKILL, then SIGTERM within an experience."""
    method = {"plugins": [REPLAY, "drl", "online_ewc"]}
    one = small(tmp_path, method, minutes=0.0005, training={"epochs": 100})
    yaml_file, out = tmp_path / "small.yaml", tmp_path / "out"
    files = one.files(out)
    process = begun(yaml_file, out, (1, 0))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = progress(one, out)

    process = begun(yaml_file, out)
    wait_for(lambda: progress(one, out) != before, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 143
    assert f"interrupted: a checkpoint was written: {files.checkpoint}" in said
    after = progress(one, out)
    assert (after["n_done"], after["part"]) == (1, 0)

    process = begun(yaml_file, out)
    assert process.communicate()[0] == "completed\n"
    run(one, tmp_path / "whole")
    assert left_by(one, out) == left_by(one, tmp_path / "whole")
    seconds = json.loads((files.folder / "result.json").read_text())["seconds"]
    assert seconds["training"] > after["seconds"]["training"] > before["seconds"]["training"] > 0


def processes_of(group: int) -> list[str]:
    """What the processes of a group are, without those that have ended."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True)
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [line[2] for line in lines if line[0] == str(group) and line[1][0] != "Z"]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_sigterm_to_all_processes_of_a_command_leaves_a_checkpoint(tmp_path):
    one = small(tmp_path, {}, minutes=0.005, training={"epochs": 100_000})
    command = [sys.executable, "-m", "avalanche_ext", "run", str(tmp_path / "small.yaml"), "-q"]
    command += ["--out", str(tmp_path / "out"), "--jobs", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    files = one.files(tmp_path / "out")
    wait_for(files.checkpoint.exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert f"interrupted: a checkpoint was written: {files.checkpoint}" in said
    assert process.returncode == 143
    assert progress(one, tmp_path / "out")["part"] == 0
    deadline = time.monotonic() + 60
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(process.pid) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_run_that_finishes_after_sigterm_leaves_no_timer_and_no_handler(tmp_path, monkeypatch):
    one = small(tmp_path, {})
    save = Checkpoints.save

    def end_in_last(self, now):
        save(self, now)
        if now.n_done == 2:  # The last one: no batch comes that could end it.
            with self.within(lambda part: now):
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "save", end_in_last)
    run(one, tmp_path)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_disk_that_fails_keeps_the_last_checkpoint_and_says_so(tmp_path, monkeypatch, capsys):
    one = small(tmp_path, {})
    assert run_until(one, tmp_path, monkeypatch, 1)
    files = one.files(tmp_path)
    before = files.checkpoint.read_bytes()
    capsys.readouterr()

    flush = os.fsync

    def fail(handle):
        if "checkpoint" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(5, "Input/output error")
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert run_until(one, tmp_path, monkeypatch, n_batches=5)
    said = capsys.readouterr().err
    assert said == f"{files.checkpoint}: no checkpoint could be written: Input/output error\n"
    assert files.checkpoint.read_bytes() == before
    assert not [path for path in files.folder.iterdir() if path.name.startswith(".checkpoint")]


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [
        (OSError(5, "Input/output error"), True),
        (MemoryError("no memory"), True),
        (ValueError("a state that does not suit it"), False),
    ],
)
def test_only_errors_of_the_checkpoint_cost_it(tmp_path, monkeypatch, capsys, error, is_kept):
    one = small(tmp_path, {})
    assert run_until(one, tmp_path, monkeypatch, 1)
    files = one.files(tmp_path)

    def fail(*_):
        raise error

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("avalanche_ext.runner.checkpoint.restored", fail)
        if is_kept:
            assert run_cell(one, tmp_path, None) == "failed"
            assert files.checkpoint.exists()
        else:
            run(one, tmp_path)
            assert (files.folder / "checkpoint-unusable-1.pt").exists()
            said = capsys.readouterr().err
            assert "and the run starts over: restoring it failed, ValueError: a state" in said
    if is_kept:
        run(one, tmp_path)
        assert not (files.folder / "checkpoint-unusable-1.pt").exists()


@pytest.mark.parametrize("place", ["avalanche_ext.state.decode.Mover.on", "torch.load"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["gpu", "cpu"],
)
def test_full_memory_costs_no_checkpoint(ended_here, monkeypatch, place, error):
    one, out, expected = ended_here

    def fail(*_, **__):
        raise error

    restored = checkpoint.restored

    def short_of_memory(*args):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            return restored(*args)

    with monkeypatch.context() as patch:
        if place == "torch.load":
            patch.setattr(place, fail)
        else:
            patch.setattr(checkpoint, "restored", short_of_memory)
        assert run_cell(one, out, None) == "failed"
    assert one.files(out).checkpoint.exists()
    run(one, out)
    assert left_by(one, out) == expected


def test_a_run_on_the_cpu_leaves_gpus_alone(ended_here, monkeypatch):
    one, out, expected = ended_here

    def fail(*_):
        raise AssertionError("of a GPU")

    save = Checkpoints.save

    def save_beside_gpus(self, now):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(torch.cuda, "get_rng_state_all", fail)
            save(self, now)

    monkeypatch.setattr(Checkpoints, "save", save_beside_gpus)
    run(one, out)
    assert left_by(one, out) == expected


def test_a_checkpoint_that_cannot_be_read_at_present_is_kept(tmp_path, monkeypatch):
    one = small(tmp_path, {})
    assert run_until(one, tmp_path, monkeypatch, 1)
    checkpoint = one.files(tmp_path).checkpoint
    read = Path.read_bytes

    def fail(path):
        if path == checkpoint:
            raise OSError(5, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert run_cell(one, tmp_path, None) == "failed"
    assert "Input/output error" in one.files(tmp_path).failure()
    assert checkpoint.exists()
    run(one, tmp_path)
