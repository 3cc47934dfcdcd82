"""Folders of images: ignored files, refused files, and CIFAR in folders of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avalanche_ext.benchmarks import image_folder, split, split_cifar10, split_cifar100
from avalanche_ext.benchmarks.images import image_tree, read_image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / part / name / "0.png")
    return tmp_path


def test_hidden_files_and_folders_are_passed_over(tree: Path) -> None:
    for folder in (".ipynb_checkpoints", "ant/.ipynb_checkpoints"):
        (tree / "train" / folder).mkdir()
        (tree / "train" / folder / "0.png").write_bytes(b"")
    (tree / "train" / "ant" / "._0.png").write_bytes(b"")
    (tree / "train" / "ant" / "notes.txt").write_text("not an image")
    assert image_tree(tree).train_y.tolist() == [0, 1]


def broken_jpeg(file: Path) -> None:
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    file.write_bytes(file.read_bytes()[:600])


def deep_png(file: Path) -> None:
    Image.fromarray(np.full((4, 4), 1000, dtype=np.uint16)).save(file, "PNG")


def text_file(file: Path) -> None:
    file.write_text("no image")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (broken_jpeg, "truncated"),
        (deep_png, "more than 8 bits a channel; convert it to 8 bits"),
        (text_file, "cannot identify image file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tree: Path, write: Any, message: str) -> None:
    file = tree / "test" / "bee" / "1.png"
    write(file)
    with pytest.raises(ValueError, match=f"1.png cannot be used: .*{message}") as raised:
        image_folder(str(tree), n_experiences=2)
    assert str(file) in str(raised.value)


def test_a_colour_png_of_16_bits_is_refused(tmp_path: Path) -> None:
    """Pillow reads it as 8 bits; only the header shows the 16."""
    file = tmp_path / "deep.png"
    Image.new("RGB", (4, 4)).save(file)
    content = bytearray(file.read_bytes())
    content[24] = 16
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"deep\.png cannot be used: it has more than 8 bits"):
        read_image(file)


def test_a_class_without_images_is_named(tree: Path) -> None:
    (tree / "train" / "cat").mkdir()
    with pytest.raises(FileNotFoundError, match="train/cat is taken for a class but has no image"):
        image_folder(str(tree), n_experiences=2)


def test_uneven_sizes_are_refused_without_a_size(tree: Path) -> None:
    Image.new("RGB", (5, 4)).save(tree / "train" / "bee" / "1.png")
    args = {"folder": str(tree), "image_size": None}
    with pytest.raises(ValueError, match=r"bee/1\.png has the shape \(3, 4, 5\).*give image_size"):
        split("image_folder", args, n_experiences=2)


def test_grey_images_are_coloured_unless_asked_for(tree: Path) -> None:
    Image.new("L", (4, 4), 9).save(tree / "train" / "bee" / "0.png")
    assert image_tree(tree).train_x.shape == (2, 3, 4, 4)
    benchmark = split("image_folder", {"folder": str(tree), "channels": 1}, n_experiences=2)
    x = benchmark.train_stream[1].dataset.x
    assert x.shape == (1, 1, 32, 32)
    torch.testing.assert_close(x, torch.full_like(x, 9 / 255))


def test_a_benchmark_of_images_takes_what_split_takes(tree: Path) -> None:
    for name in ("ant", "bee"):
        for i in range(1, 5):
            Image.new("RGB", (4, 4), (9, 9, 9)).save(tree / "train" / name / f"{i}.png")
    benchmark = image_folder(
        str(tree),
        n_experiences=2,
        skip=1,
        channels=1,
        train_transforms=[lambda x: x + 1],
        online=2,
    )
    sizes = [len(experience.dataset) for experience in benchmark.train_stream]
    assert sizes == [2, 2, 2, 2, 1]
    x = benchmark.train_stream[0].dataset.x
    torch.testing.assert_close(x, torch.full((2, 1, 32, 32), 1 + 9 / 255), rtol=0, atol=0.01)
    plain = image_folder(str(tree), n_experiences=2)
    assert plain.train_stream[0].dataset.x.shape == (5, 3, 32, 32)


@pytest.mark.parametrize(
    ("make", "n_classes", "inner"),
    [(split_cifar10, 10, ""), (split_cifar100, 100, ""), (split_cifar100, 100, "cifar100")],
)
def test_cifar_in_folders(make: Any, n_classes: int, inner: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(n_classes):
            folder = tmp_path / inner / part / f"class{i:02}"
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (i, 0, part == "test")).save(folder / "image.png")
    benchmark = make(n_experiences=5, data_root=tmp_path)
    assert benchmark.n_classes == n_classes
    dataset = benchmark.train_stream[1].dataset
    assert dataset.x.shape == (n_classes // 5, 3, 32, 32)
    assert (dataset.x[:, 0, 0, 0] * 255).round().tolist() == dataset.y.tolist()


def test_cifar_has_images_of_32_pixels(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for i in range(10):
            (tmp_path / part / str(i)).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / str(i) / "image.png")
    with pytest.raises(ValueError, match=r"images of the shape \(3, 8, 8\), but CIFAR10 has"):
        split_cifar10(data_root=tmp_path)
