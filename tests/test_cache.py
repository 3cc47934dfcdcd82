"""Decoded data sets on disk: read instead of decoded, never out of date, whole, and shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_ext import cache
from avalanche_ext.benchmarks import images, split
from avalanche_ext.benchmarks.images import image_tree, read_image
from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.cache import UncachedWarning
from avalanche_ext.cli import main
from avalanche_ext.models import MLP
from tests.cases import quiet, weights

N = 260
"""Images of each part: both together are more than what is always decoded."""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for i in range(N):
            file = folder / part / f"class{i % 2}" / f"{i:03}.bmp"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(file)
    return folder


@pytest.fixture
def tree(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the images that has settled, with an empty cache."""
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SECONDS_TO_SETTLE", 0.0)
    yield Path(shutil.copytree(original, tmp_path / "images"))
    image_tree.cache_clear()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The image files that have been decoded."""
    decoded: list[Path] = []

    def read(file: Path) -> torch.Tensor:
        decoded.append(file)
        return read_image(file)

    monkeypatch.setattr(images, "read_image", read)
    return decoded


def loaded(tree: Path, *how: Any) -> Source:
    """What a process that has just started would load."""
    image_tree.cache_clear()
    return image_tree(tree, *how)


def assert_same(one: Source, other: Source) -> None:
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert (one.n_classes, one.white) == (other.n_classes, other.white)


def test_the_second_process_decodes_nothing(tree: Path, reads: list[Path]) -> None:
    first = loaded(tree)
    assert len(reads) == 2 * N
    second = loaded(tree)
    assert len(reads) == 2 * N
    assert_same(first, second)
    assert torch.equal(first.train_x[0], read_image(tree / "train" / "class0" / "000.bmp"))


def test_other_sizes_and_colours_are_other_entries(tree: Path, reads: list[Path]) -> None:
    for how, shape in (((None, 3), (3, 6, 6)), ((4, 3), (3, 4, 4)), ((None, 1), (1, 6, 6))):
        for _ in range(2):
            assert loaded(tree, *how).train_x.shape[1:] == shape
    assert len(reads) == 3 * 2 * N
    assert len(cache.entries()) == 3


def replaced(file: Path) -> None:
    """Other pixels, with the size and the time of the file as they were."""
    before = file.stat()
    Image.new("RGB", (6, 6), (1, 2, 3)).save(file)
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(file: Path) -> None:
    file.unlink()


def added(file: Path) -> None:
    shutil.copy(file, file.with_name("more.bmp"))


def renamed(file: Path) -> None:
    """The second image comes first."""
    file.rename(file.with_name("zzz.bmp"))


@pytest.mark.parametrize("change", [replaced, removed, added, renamed])
def test_any_change_of_the_files_is_seen(tree: Path, change: Any) -> None:
    old = loaded(tree)
    change(tree / "train" / "class1" / "001.bmp")
    new = loaded(tree)
    assert old.train_x.shape != new.train_x.shape or not torch.equal(old.train_x, new.train_x)
    shutil.rmtree(cache.cache_folder())
    assert_same(new, loaded(tree))


def test_what_changes_while_it_is_decoded_is_not_kept(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: Path) -> torch.Tensor:
        image = read_image(file)
        if file.name == "001.bmp":
            replaced(file)
        return image

    with monkeypatch.context() as patch:
        patch.setattr(images, "read_image", read)
        loaded(tree)
    assert not cache.entries()
    assert loaded(tree).train_x[1, :, 0, 0].tolist() == [1, 2, 3]


def test_what_has_just_changed_is_not_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change may get the same time stamp from the file system."""
    monkeypatch.setattr(cache, "_SECONDS_TO_SETTLE", 100.0)
    loaded(tree)
    assert not cache.entries()


def test_small_data_sets_are_not_kept(tree: Path) -> None:
    shutil.rmtree(tree / "test" / "class0")
    shutil.rmtree(tree / "train" / "class0")
    loaded(tree)
    assert not cache.cache_folder().exists()


@pytest.mark.parametrize("length", [0, 100, 20_000])
def test_a_damaged_entry_is_made_again(tree: Path, reads: list[Path], length: int) -> None:
    first = loaded(tree)
    (entry,) = cache.entries()
    content = entry.path.read_bytes()[:length]
    entry.path.unlink()  # Not cut off in place: this process has mapped it.
    entry.path.write_bytes(content)
    for _ in range(2):
        assert_same(first, loaded(tree))
    assert len(reads) == 2 * 2 * N
    assert cache.entries()[0].n_bytes == entry.n_bytes


def test_where_nothing_can_be_written_a_line_says_so_and_all_goes_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = loaded(tree)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.warns(UncachedWarning) as caught:
        assert_same(loaded(tree), expected)
    (line,) = str(caught[0].message).splitlines()
    assert "cannot be written (Not a directory); set AVALANCHE_EXT_CACHE to a folder" in line


def test_a_full_disk_leaves_nothing_behind(tree: Path, tmp_path: Path) -> None:
    disk = tmp_path / "cache"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk]
    if sys.platform != "linux" or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system here")
    try:
        with pytest.warns(UncachedWarning, match=r"cannot be written \((No space|the disk)"):
            assert len(loaded(tree).train_x) == N
        assert [file.suffix for file in disk.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", disk], check=True)


def load_in_a_process(tree: Path, hangs: bool, said: Any) -> None:
    """Load, and say how many images were decoded and their sum; or hang after a few."""
    n = 0

    def read(file: Path) -> torch.Tensor:
        nonlocal n
        n += 1
        if hangs and n == 10:
            said.send("decoding")
            time.sleep(60)
        return read_image(file)

    images.read_image = read
    source = loaded(tree)
    said.send((n, int(source.train_x.sum()) + int(source.test_x.sum())))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, forked processes may hang")
def test_of_several_processes_one_decodes_and_its_death_stops_nobody(tree: Path) -> None:
    context = get_context("fork")
    ends = [context.Pipe(duplex=False) for _ in range(3)]
    processes = [
        context.Process(target=load_in_a_process, args=(tree, i == 0, ends[i][1])) for i in range(3)
    ]
    first, *others = processes
    first.start()
    assert ends[0][0].recv() == "decoding"
    for each in others:
        each.start()
    assert not any(end.poll(0.3) for end, _ in ends[1:]), "they wait for the first"
    first.kill()
    answers = [end.recv() for end, _ in ends[1:]]
    for each in processes:
        each.join()
    assert sorted(n for n, _ in answers) == [0, 2 * N]
    expected = loaded(tree)
    assert {s for _, s in answers} == {int(expected.train_x.sum()) + int(expected.test_x.sum())}
    assert len(cache.entries()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which pages are shared")
def test_what_is_read_takes_no_memory_of_a_process_alone(tree: Path) -> None:
    source = loaded(tree)
    assert int(source.train_x.sum()) > 0
    (entry,) = cache.entries()
    maps = Path("/proc/self/smaps").read_text().split(str(entry.path))[1:]
    assert maps
    dirty = [line for each in maps for line in each.splitlines()[:25] if "Private_Dirty" in line]
    assert {line.split()[1] for line in dirty} == {"0"}


def test_what_is_written_to_the_samples_stays_in_the_process(tree: Path) -> None:
    source = loaded(tree)
    before = source.train_x.clone()
    source.train_x.zero_()
    assert torch.equal(loaded(tree).train_x, before)


def test_weights_are_the_same_with_and_without_it(
    tree: Path, reads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned() -> torch.Tensor:
        image_tree.cache_clear()
        benchmark = split("image_folder", {"folder": str(tree), "image_size": 4}, None, None, 2)
        torch.manual_seed(0)
        model = MLP([8], input_shape=(3, 4, 4), n_classes=2)
        strategy = quiet(model=model)
        for experience in benchmark.train_stream:
            strategy.train(experience)
        return weights(strategy)

    decoded, mapped = learned(), learned()
    assert len(reads) == 2 * N
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file"))
    with pytest.warns(UncachedWarning):
        without = learned()
    assert torch.equal(decoded, mapped)
    assert torch.equal(decoded, without)


def test_folders_of_torchvision_are_kept_unless_they_have_transforms(tree: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Grayscale

    def make(root: str, transform: Any = None) -> ImageFolder:
        return ImageFolder(root, transform)

    parts: tuple[Any, Any] = ({"root": str(tree / "train")}, {"root": str(tree / "test")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_FEWEST_FILES", N)
        first, second = (split(make, None, *parts, n_experiences=2) for _ in range(2))
        assert len(cache.entries()) == 2
        split(make, {"transform": Grayscale()}, *parts, n_experiences=2)
    assert len(cache.entries()) == 2
    for one, other in zip(first.train_stream, second.train_stream, strict=True):
        assert torch.equal(one.dataset.x, other.dataset.x)


def test_entries_that_nobody_has_used_for_a_month_are_removed(tree: Path) -> None:
    loaded(tree)
    (old,) = cache.entries()
    os.utime(old.path, (0, time.time() - 31 * 86400))
    loaded(tree)
    assert cache.entries()[0].used > time.time() - 60, "it was used"
    os.utime(old.path, (0, time.time() - 31 * 86400))
    loaded(tree, 4)
    assert [entry.path for entry in cache.entries()] != [old.path]


def test_the_command_shows_and_clears_it(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache'}: 0 data sets, 0.0 MB\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded(tree)
    assert main(["cache"]) == 0
    head, entry = capsys.readouterr().out.splitlines()
    assert head == f"{tmp_path / 'cache'}: 1 data set, 0.1 MB"
    assert "images, last used " in entry
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'cache'}: removed 1 data set, 0.1 MB")
    assert not [*(tmp_path / "cache").iterdir()]


def test_its_folder_is_that_of_the_users_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.FOLDER_VARIABLE)
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
        assert cache.cache_folder() == Path("/elsewhere/avalanche-ext")
    assert cache.cache_folder().name == "avalanche-ext"
