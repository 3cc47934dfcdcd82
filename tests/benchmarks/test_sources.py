"""Data sets as whole tensors, and the errors when they are missing."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.datasets
from avalanche.benchmarks.datasets import default_dataset_location
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import FashionMNIST

from avalanche_ext.benchmarks import DataNotFoundError, image_folder, split_cifar10, split_mnist
from avalanche_ext.benchmarks.datasets import digits, fmnist
from avalanche_ext.benchmarks.images import image_tree
from avalanche_ext.benchmarks.sources import resolve_data_root
from avalanche_ext.data import InMemoryDataset

COLOURS = {"ant": (255, 0, 0), "bee": (0, 255, 0), "cat": (0, 0, 255), "dog": (51, 102, 153)}


class TestDigits:
    def test_every_digit_is_on_one_side(self) -> None:
        source = digits()
        ours = torch.cat([source.train_x, source.test_x]).flatten(1)
        whole = torch.from_numpy(load_digits().data).byte()
        assert torch.equal(ours.unique(dim=0, return_counts=True)[1], torch.ones(1797).long())
        assert torch.equal(ours.unique(dim=0), whole.unique(dim=0))

    def test_stratified(self) -> None:
        source = digits()
        n_train, n_test = (y.bincount(minlength=10) for y in (source.train_y, source.test_y))
        assert (len(source.train_y), len(source.test_y)) == (1347, 450)
        assert ((n_test / (n_train + n_test) - 0.25).abs() < 0.005).all()

    def test_labels_belong_to_images(self) -> None:
        source, whole = digits(), load_digits()
        label_of = {x.tobytes(): y for x, y in zip(whole.data, whole.target, strict=True)}
        x = source.test_x.flatten(1).double().numpy()
        assert [label_of[row.tobytes()] for row in x] == source.test_y.tolist()

    def test_types_and_range(self) -> None:
        source = digits()
        assert source.train_x.shape == (1347, 1, 8, 8)
        assert source.train_x.dtype == torch.uint8
        assert source.train_y.dtype == torch.int64
        assert (source.train_x.min(), source.train_x.max()) == (0, source.white)

    def test_whatever_the_global_seed(self) -> None:
        first = digits()
        digits.cache_clear()
        torch.manual_seed(99)
        assert torch.equal(digits().train_x, first.train_x)


def offline(self: Any) -> None:
    """Stands in for torchvision's download where it cannot work."""
    raise OSError("no network")


def tiny_download(self: Any) -> None:
    """Stands in for torchvision's download of Fashion-MNIST: six and four images of 2×2 pixels."""
    raw = Path(self.raw_folder)
    raw.mkdir(parents=True)
    for part, n in (("train", 6), ("t10k", 4)):
        for kind, shape in (("images-idx3", (n, 2, 2)), ("labels-idx1", (n,))):
            header = bytes([0, 0, 8, len(shape)]) + b"".join(k.to_bytes(4, "big") for k in shape)
            content = bytes(i % 10 for i in range(prod(shape)))
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + content)


class TestDataRoot:
    def test_given_before_variable(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AVALANCHE_EXT_DATA", str(tmp_path / "variable"))
        assert resolve_data_root(tmp_path / "given", "MNIST") == tmp_path / "given"
        assert resolve_data_root(None, "MNIST") == tmp_path / "variable"

    @pytest.mark.parametrize("variable", ["", None])
    def test_otherwise_avalanches_default(
        self, variable: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AVALANCHE_EXT_DATA", raising=False)
        if variable is not None:
            monkeypatch.setenv("AVALANCHE_EXT_DATA", variable)
        assert resolve_data_root(None, "MNIST") == default_dataset_location("mnist")

    @pytest.mark.parametrize("given", [True, False], ids=["data_root", "variable"])
    @pytest.mark.parametrize(
        ("make", "dataset", "file"),
        [
            (split_mnist, "MNIST", "MNIST/raw/train-images-idx3-ubyte"),
            (split_cifar10, "CIFAR10", "cifar-10-batches-py/data_batch_1"),
        ],
    )
    def test_missing_data(
        self,
        make: Any,
        dataset: str,
        file: str,
        given: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(getattr(torchvision.datasets, dataset), "download", offline)
        monkeypatch.setenv("AVALANCHE_EXT_DATA", "elsewhere" if given else str(tmp_path))
        with pytest.raises(DataNotFoundError) as raised:
            make(data_root=tmp_path if given else None)
        message = str(raised.value)
        for part in (dataset, str(tmp_path), file, "--data-root", "AVALANCHE_EXT_DATA"):
            assert part in message
        assert "no network" in str(raised.value.__cause__)

    def test_absent_data_are_downloaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FashionMNIST, "download", tiny_download)
        source = fmnist(tmp_path)
        assert source.n_classes == 10
        assert source.train_x.shape == (6, 1, 2, 2)
        assert source.test_y.tolist() == [0, 1, 2, 3]
        assert source.train_x[0].flatten().tolist() == [0, 1, 2, 3]
        assert source.white == 255

    def test_another_root_is_not_answered_from_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(FashionMNIST, "download", tiny_download)
        monkeypatch.setenv("AVALANCHE_EXT_DATA", str(tmp_path))
        assert fmnist(None) is fmnist(tmp_path)
        monkeypatch.setattr(FashionMNIST, "download", offline)
        monkeypatch.setenv("AVALANCHE_EXT_DATA", str(tmp_path / "elsewhere"))
        with pytest.raises(DataNotFoundError, match="elsewhere"):
            fmnist(None)


def write_tree(folder: Path, train: str = "ant bee cat dog", test: str = "ant bee cat dog") -> None:
    """PNGs of one colour per class, the i-th image brighter by i, of uneven size."""
    for part, classes, n in (("train", train, 3), ("test", test, 2)):
        for name in classes.split():
            (folder / part / name).mkdir(parents=True)
            for i in range(n):
                colour = tuple(max(0, c - i) for c in COLOURS[name])
                Image.new("RGB", (10 + i, 7), colour).save(folder / part / name / f"{i}.png")


class TestImageFolder:
    def test_content(self, tmp_path: Path) -> None:
        write_tree(tmp_path)
        source = image_tree(tmp_path, 5)
        assert source.n_classes == 4
        assert source.train_x.shape == (12, 3, 5, 5)
        assert (source.train_x.dtype, source.white) == (torch.uint8, 255)
        for x, y, n in ((source.train_x, source.train_y, 3), (source.test_x, source.test_y, 2)):
            assert y.tolist() == n * [0, 1, 2, 3], "the classes take turns"
            for row, label in enumerate(y.tolist()):
                colour = torch.tensor([*COLOURS.values()][label]).sub(row // 4).clamp(min=0).byte()
                torch.testing.assert_close(x[row], colour[:, None, None].expand(3, 5, 5))

    def test_uneven_classes_take_turns_while_they_last(self, tmp_path: Path) -> None:
        write_tree(tmp_path)
        for i in (1, 2):
            (tmp_path / "train" / "bee" / f"{i}.png").unlink()
        assert image_tree(tmp_path, 5).train_y.tolist() == [0, 1, 2, 3, 0, 2, 3, 0, 2, 3]

    def test_benchmark(self, tmp_path: Path) -> None:
        write_tree(tmp_path)
        benchmark = image_folder(
            str(tmp_path), image_size=6, n_experiences=2, train_size=4, test_size=2
        )
        assert benchmark.n_classes == 4
        for i, experience in enumerate(benchmark.train_stream):
            assert isinstance(experience.dataset, InMemoryDataset)
            assert experience.dataset.x.shape == (4, 3, 6, 6)
            assert experience.dataset.y.tolist() == 2 * [2 * i, 2 * i + 1]
        assert [e.dataset.y.tolist() for e in benchmark.test_stream] == [[0, 1], [2, 3]]

    @pytest.mark.parametrize("way", ["data_root", "variable", "current folder"])
    def test_relative_folders(
        self, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_tree(tmp_path / "insects")
        monkeypatch.delenv("AVALANCHE_EXT_DATA", raising=False)
        if way == "variable":
            monkeypatch.setenv("AVALANCHE_EXT_DATA", str(tmp_path))
        if way == "current folder":
            monkeypatch.chdir(tmp_path)
        root = tmp_path if way == "data_root" else None
        benchmark = image_folder("insects", image_size=4, n_experiences=4, data_root=root)
        assert len(benchmark.train_stream) == 4

    @pytest.mark.parametrize("part", ["train", "test"])
    def test_a_part_is_missing(self, part: str, tmp_path: Path) -> None:
        write_tree(tmp_path)
        (tmp_path / part).rename(tmp_path / "other")
        with pytest.raises(DataNotFoundError) as raised:
            image_folder(str(tmp_path))
        assert str(tmp_path / part) in str(raised.value)
        assert f"{part}/<class>/<image>" in str(raised.value)

    def test_parts_of_different_classes(self, tmp_path: Path) -> None:
        write_tree(tmp_path, train="ant bee cat", test="ant bee dog")
        message = r"train and test must have the same classes, but only one of them has cat, dog"
        with pytest.raises(ValueError, match=message):
            image_folder(str(tmp_path))
