"""The disk fails, or the process dies, at each write, flush and move; and files are damaged."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from avalanche_ext.results.store import CellFiles
from avalanche_ext.runner.checkpoint_file import read_checkpoint
from avalanche_ext.runner.worker import run_claimed
from tests.results.test_store import NEW, OLD, contents, files, finish, log
from tests.runner.resuming import REPLAY, left_by, run, run_until, small

TINY = {
    "benchmark": {"name": "split_digits", "n_experiences": 2, "train_size": 20, "test_size": 20},
    "training": {"epochs": 1},
}
METHOD = {"plugins": [REPLAY, "rho_spectrum"]}
CHANGES = ("replace", "fsync", "truncate", "mkdir", "rmdir", "unlink")


class Disk:
    """Does something before the n-th change that this process asks of the disk.

    Args:
        act: Called then, with half of what a write is to write written.
        n: Which change, from 1; 0 for none.
        kinds: Which changes count: "write" or functions of `os`.
    """

    def __init__(
        self, act: Callable[[], None], n: int = 0, kinds: tuple[str, ...] = ("write", *CHANGES)
    ) -> None:
        self._act = act
        self._n = n
        self._kinds = kinds
        self.n_asked = 0

    def ask(self, kind: str) -> bool:
        """Count a change, and return whether it is the n-th."""
        self.n_asked += kind in self._kinds
        return kind in self._kinds and self.n_asked == self._n

    @contextmanager
    def used(self) -> Iterator[Disk]:
        """Inside, changes are counted."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(os, name, self._asking(name, getattr(os, name)))
            opened = io.open
            patch.setattr(io, "open", lambda *args, **rest: _File(opened(*args, **rest), self))
            yield self

    def _asking(self, kind: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **options: Any) -> Any:
            if self.ask(kind):
                self._act()
            return change(*args, **options)

        return asked

    def write(self, file: Any, content: Any) -> int:
        """Write into a file, or half of it before the n-th change."""
        if self.ask("write"):
            file.write(content[: len(content) // 2])
            file.flush()
            self._act()
        return file.write(content)


class _File:
    """A file whose writes a `Disk` counts."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, content: Any) -> int:
        return self._disk.write(self._file, content)


def fail(code: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(code, os.strerror(code))

    return act


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(n: int, act: Callable[[], object]) -> bool:
    """Do something in another process, which is killed at its n-th change of the disk.

    Returns:
        Whether it came so far.
    """
    child = os.fork()
    if not child:
        try:
            with Disk(die, n).used():
                act()
        finally:  # Whatever it raises, no second pytest goes on.
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def partials(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.name != ".claims"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any], int]:
    """A cell, what it leaves, and how many changes of the disk it asks for."""
    folder = tmp_path_factory.mktemp("tiny")
    one = small(folder, METHOD, **TINY)
    with Disk(die).used() as disk:
        run(one, folder / "whole")
    return one, left_by(one, folder / "whole"), disk.n_asked


def check_failing_at(tiny: Any, out: Path, n: int, code: int, capfd: Any) -> None:
    """Let one change fail: there is the result or one line; and the same command then heals."""
    one, expected, _ = tiny
    capfd.readouterr()
    with Disk(fail(code), n).used():
        how, reason = run_claimed(one, out, None)
    said = capfd.readouterr().err
    if how == "done":
        assert left_by(one, out) == expected, n
    else:
        assert (how, reason.count("\n")) == ("failed", 0), n
        assert os.strerror(code) in reason, n
    assert "Traceback" not in said, n
    assert partials(out) == [], n
    assert run_claimed(one, out, None)[0] in ("done", "found"), n
    one.files(out).bring_back()
    assert left_by(one, out) == expected, n
    assert one.files(out).is_tidy(), n
    assert not [*out.rglob("*unusable*")], n


def check_killed_at(tiny: Any, out: Path, n: int) -> None:
    """Kill a run at one change of the disk: the same command then heals."""
    one, expected, _ = tiny
    assert killed(n, lambda: run_claimed(one, out, None)), n
    assert run_claimed(one, out, None)[0] in ("done", "found"), n
    one.files(out).bring_back()
    assert left_by(one, out) == expected, n
    assert one.files(out).is_tidy(), n
    assert partials(out) == [], n
    assert not [*out.rglob("*unusable*")], n


@pytest.mark.parametrize("part", [1, 4, 8])
def test_a_change_that_the_disk_refuses_is_one_line_and_heals(tiny, tmp_path, capfd, part):
    check_failing_at(tiny, tmp_path / "out", tiny[2] * part // 9, errno.ENOSPC, capfd)


@pytest.mark.cluster
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_each_change_that_the_disk_refuses_is_one_line_and_heals(tiny, tmp_path, capfd, code):
    for n in range(1, tiny[2] + 1):
        check_failing_at(tiny, tmp_path / str(n), n, code, capfd)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
@pytest.mark.parametrize("part", [3, 7])
def test_a_run_that_is_killed_at_a_change_of_the_disk_heals(tiny, tmp_path, part):
    check_killed_at(tiny, tmp_path / "out", tiny[2] * part // 9)


@needs_fork
@pytest.mark.cluster
def test_a_run_that_is_killed_at_each_change_of_the_disk_heals(tiny, tmp_path):
    for n in range(1, tiny[2] + 1):
        check_killed_at(tiny, tmp_path / str(n), n)


def finished(out: Path) -> CellFiles:
    """A finished cell with wandb's files and events."""
    one = files(out)
    finish(one)
    log(one, "old")
    return one


def interrupted(out: Path) -> CellFiles:
    """A cell that was interrupted, with a checkpoint and events."""
    one = files(out)
    one.begin()
    log(one, "old")
    one.checkpoint.write_bytes(b"old")
    return one


def replaced(out: Path) -> CellFiles:
    """A finished cell after which another configuration has failed."""
    one, other = finished(out), files(out, NEW)
    other.begin()
    log(other, "new")
    other.write_exhibit("spectrum", {})
    other.write_failure("out of memory")
    return one


def own(one: CellFiles) -> dict[str, bytes]:
    """What is in the folder, without what another configuration has left."""
    return {name: each for name, each in contents(one).items() if NEW not in name}


@needs_fork
@pytest.mark.parametrize(
    ("begun", "act", "heal"),
    [
        (finished, lambda out: files(out, NEW).begin(), CellFiles.bring_back),
        (replaced, lambda out: files(out).bring_back(), CellFiles.bring_back),
        (interrupted, lambda out: files(out, NEW).begin(), CellFiles.begin),
    ],
    ids=["set aside", "brought back", "interrupted"],
)
def test_what_is_moved_stays_whole_whenever_the_process_is_killed(tmp_path, begun, act, heal):
    right = finished(tmp_path / "right") if begun is replaced else begun(tmp_path / "right")
    n = 1
    while True:
        out = tmp_path / str(n)
        one = begun(out)
        was_killed = killed(n, lambda out=out: act(out))
        heal(one)
        left = {name: each for name, each in own(one).items() if not name.startswith("wandb")}
        expected = {k: v for k, v in own(right).items() if not k.startswith("wandb")}
        assert left == expected, n
        wandb = [path.read_text() for path in one.folder.rglob("run.wandb")]
        assert "old" in wandb, n
        if not was_killed:
            break
        n += 1
    assert n > 5


@needs_fork
def test_a_rerun_that_is_killed_keeps_the_result_whole_here_or_aside(tmp_path):
    right = contents(finished(tmp_path / "right"))
    n = 1
    while killed(n, finished(tmp_path / str(n)).supersede):
        one = files(tmp_path / str(n))
        one.bring_back()
        if one.is_done():
            assert contents(one) == right, n
        else:
            aside = {name.replace(f"-{OLD}-1", ""): x for name, x in contents(one).items()}
            assert aside == right, n
        n += 1
    assert n > 5


def test_nothing_takes_its_place_before_a_power_cut_would_leave_it(tmp_path, monkeypatch):
    """Files are flushed before they are renamed, and events before what depends on them."""
    flushed: dict[Path, bytes] = {}
    fsync, replace = os.fsync, os.replace
    placed = []

    def note(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_file():
            flushed[path] = path.read_bytes()
        fsync(handle)

    def check(source: Path, target: Path) -> None:
        assert flushed[source] == source.read_bytes(), target.name
        events = target.parent / "events.jsonl"
        if target.name == "result.json":
            assert flushed[events] == events.read_bytes()
        elif target.name == "checkpoint.pt":
            progress = torch.load(source, weights_only=True)["progress"]
            assert len(flushed[events]) >= progress["n_bytes"] > 0
        placed.append(target.name)
        replace(source, target)

    if sys.platform != "linux":
        pytest.skip("needs /proc")
    one = small(tmp_path, METHOD, **TINY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", note)
        patch.setattr(os, "replace", check)
        run(one, tmp_path / "out")
    assert {*placed} >= {"config.yaml", "checkpoint.pt", "result.json", "rho_spectrum.npz"}


def regions(path: Path) -> dict[str, range]:
    """The parts of a checkpoint's file: headers, contents, the directory and the tail."""
    with zipfile.ZipFile(path) as archive:
        infos, start = archive.infolist(), archive.start_dir
    found = {}
    raw = path.read_bytes()
    for info in infos:
        offset = info.header_offset
        lengths = [int.from_bytes(raw[offset + i : offset + i + 2], "little") for i in (26, 28)]
        first = offset + 30 + sum(lengths)
        name = info.filename.partition("/")[2]
        found[f"header of {name}"] = range(offset, first)
        found[name] = range(first, first + info.compress_size)
    end = raw.index(b"PK\x06", start)
    return {**found, "directory": range(start, end), "tail": range(end, len(raw))}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, bytes, dict[str, range]]:
    """An interrupted cell, its folder, its checkpoint and the regions of that."""
    folder = tmp_path_factory.mktemp("stored")
    one = small(folder, {"plugins": [REPLAY]}, **TINY)
    with pytest.MonkeyPatch.context() as patch:
        assert run_until(one, folder, patch, 1)
    path = one.files(folder).checkpoint
    return one, folder, path.read_bytes(), regions(path)


def damages(right: bytes, region: range) -> Iterator[tuple[str, bytes]]:
    """Contents that are damaged in a region: a bit of it flipped, or cut off there."""
    for place in {region[0], region[len(region) // 2], region[-1]}:
        wrong = bytearray(right)
        wrong[place] ^= 4
        yield f"flipped at {place}", bytes(wrong)
        yield f"cut at {place}", right[:place]


def content_of(found: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def check_damages(stored: Any, names: list[str], capfd: Any) -> int:
    """Damage regions in turn: it is found, or changes nothing. Return how often it was found."""
    one, folder, right, places = stored
    its = one.files(folder)
    its.checkpoint.write_bytes(right)
    expected = content_of(read_checkpoint(its, one)[1])
    n_found = 0
    for name in names:
        for how, wrong in damages(right, places[name]):
            its.checkpoint.write_bytes(wrong)
            capfd.readouterr()
            found = read_checkpoint(its, one)
            said = capfd.readouterr().err
            if found:
                assert "cut" not in how, (name, how)
                assert content_of(found[1]) == expected, (name, how)
                continue
            n_found += 1
            assert said.count("\n") == 1, (name, how)
            assert "this checkpoint cannot be used, and the run starts over: it is " in said
            (aside,) = its.folder.glob("checkpoint-unusable-*")
            assert aside.read_bytes() == wrong
            aside.unlink()
    return n_found


def test_damage_in_regions_of_a_checkpoint_is_found_or_harmless(stored, capfd):
    names = [*stored[3]]
    assert check_damages(stored, [*names[:6], *names[6:-2:15], *names[-2:]], capfd) > 30


@pytest.mark.cluster
def test_damage_in_any_region_of_a_checkpoint_is_found_or_harmless(stored, capfd):
    assert check_damages(stored, [*stored[3]], capfd) > 100


@pytest.mark.cluster
@pytest.mark.parametrize(
    "region", ["header of data.pkl", "data.pkl", "data/3", "directory", "tail"]
)
def test_a_cell_whose_checkpoint_is_damaged_starts_over_with_equal_numbers(
    stored, tmp_path, capfd, region
):
    one, folder, right, places = stored
    run(one, tmp_path / "whole")
    its = one.files(folder)
    for how, wrong in damages(right, places[region]):
        its.begin()
        its.checkpoint.write_bytes(wrong)
        run(one, folder)
        assert left_by(one, folder) == left_by(one, tmp_path / "whole"), how
        assert not its.checkpoint.exists()
