"""Any data set of (image, label) pairs, the user's or torchvision's, as a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import MNIST, FakeData, ImageFolder
from torchvision.transforms import v2

from avalanche_ext.benchmarks import domains, permuted, rotated, split, split_mnist
from avalanche_ext.benchmarks.pairs import Request, open_source
from avalanche_ext.benchmarks.sources import DataNotFoundError, Source
from tests.cases import DATA_ROOT, needs_mnist


class Birds(Dataset[Any]):
    """Images whose first pixel is 1 in training and 0 in testing, and then the sample's number."""

    def __init__(self, train: bool, n: int = 40, shift: int = 0, data_root: Any = None) -> None:
        self.x = torch.zeros(n, 1, 4, 4)
        self.x[:, 0, 0, 0] = float(train)
        self.x[:, 0, 0, 1] = torch.arange(n) / 256
        self.y = [shift + i % 4 for i in range(n)]
        self.root = data_root

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x[index], self.y[index]


class Listed(Dataset[Any]):
    """A data set of given pairs."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]


def of(dataset: Any, **given: Any) -> Source:
    groups = {name: given.pop(name, {}) for name in ("args", "train", "test")}
    return open_source(Request(dataset, **groups, **given), None, seed=0)


def folders(root: Path, **classes: str) -> None:
    """Write a folder for each name, with a folder and one image for each letter of its classes."""
    for shade, (name, letters) in enumerate(classes.items()):
        for letter in letters:
            (root / name / letter).mkdir(parents=True)
            Image.new("L", (4, 4), 9 * shade).save(root / name / letter / "0.png")


def paired(*images: Any) -> Source:
    half = Listed(*[(image, i % 2) for i, image in enumerate(images)])
    return of((half, half))


class TestConstructors:
    def test_parts_are_chosen_by_train(self) -> None:
        source = of(Birds, args={"n": 8}, test={"n": 4})
        assert source.train_x[:, 0, 0, 0].tolist() == [1.0] * 8
        assert source.test_x[:, 0, 0, 0].tolist() == [0.0] * 4
        assert source.train_y.tolist() == [0, 1, 2, 3] * 2

    def test_parts_are_chosen_by_split(self) -> None:
        chosen = []

        def make(split: str) -> Listed:
            chosen.append(split)
            return Listed((torch.zeros(1, 2, 2), 0))

        of(make)
        assert chosen == ["train", "test"]

    def test_parts_are_chosen_by_the_users_arguments(self) -> None:
        sizes = {"train": {"size": 6, "random_offset": 1}, "test": {"size": 3}}
        args = {"image_size": (3, 5, 5), "num_classes": 2}
        source = of(FakeData, args=args, **sizes)
        assert source.train_x.shape == (6, 3, 5, 5)
        assert source.test_x.shape == (3, 3, 5, 5)
        assert (source.train_x.dtype, source.white) == (torch.uint8, 255)

    def test_a_function_may_return_both_parts(self) -> None:
        source = of(lambda: (Birds(True, 6), Birds(False, 3)))
        assert (len(source.train_y), len(source.test_y)) == (6, 3)

    def test_one_data_set_without_a_part_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one FakeData, but a training and a test data set"):
            of(FakeData, args={"size": 4})

    def test_what_is_asked_for_is_given(self, tmp_path: Path) -> None:
        asked: list[Any] = []

        def make(root: str, dataset_root: Any, data_root: Any, seed: int, train: bool) -> Birds:
            asked.append((root, dataset_root, data_root, seed))
            return Birds(train)

        split(make, n_experiences=2, data_root=tmp_path, seed=7)
        assert asked == [(str(tmp_path), tmp_path, tmp_path, 7)] * 2

    def test_what_is_given_is_not_filled_in(self, tmp_path: Path) -> None:
        asked: list[Any] = []

        def make(root: str, dataset_root: Any, data_root: Any, seed: int, train: bool) -> Birds:
            asked.append((root, dataset_root, data_root, seed))
            return Birds(train)

        given = {"root": "a", "dataset_root": "b", "data_root": "c", "seed": 3}
        split(make, given, test={"root": "d"}, n_experiences=2, data_root=tmp_path, seed=7)
        assert asked == [(root, Path("b"), Path("c"), 3) for root in ("a", "d")]

    def test_each_part_has_a_folder_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders(tmp_path, learn="ab", examine="ab")
        roots = [{"root": str(tmp_path / name)} for name in ("learn", "examine")]
        source = of(ImageFolder, train=roots[0], test=roots[1])
        assert (source.train_y.tolist(), source.n_classes) == ([0, 1], 2)
        assert source.train_x[0, 0, 0, 0] < source.test_x[0, 0, 0, 0]
        monkeypatch.chdir(tmp_path)
        relative = of(ImageFolder, train={"root": "learn"}, test={"root": "examine"})
        assert torch.equal(relative.test_x, source.test_x)
        with pytest.raises(DataNotFoundError, match=f"relative path starts in .* {tmp_path}"):
            of(ImageFolder, train={"root": "learn"}, test={"root": "exam"})

    @pytest.mark.parametrize(
        ("learn", "examine", "message"),
        [
            ("abc", "bc", "label 0 is the class 'b' of the test part, but 'a' of the training par"),
            ("bc", "abc", "label 0 is the class 'a' of the test part, but 'b' of the training par"),
            ("b", "ab", "label 0 is the class 'a' of the test part, but 'b' of the training part"),
        ],
    )
    def test_parts_with_other_classes_are_refused(
        self, learn: str, examine: str, message: str, tmp_path: Path
    ) -> None:
        folders(tmp_path, learn=learn, examine=examine)
        roots = [{"root": str(tmp_path / name)} for name in ("learn", "examine")]
        with pytest.raises(ValueError, match=f"ImageFolder: {message}"):
            of(ImageFolder, train=roots[0], test=roots[1])

    def test_the_last_classes_may_be_absent_from_a_part(self, tmp_path: Path) -> None:
        folders(tmp_path, learn="abc", examine="ab")
        roots = [{"root": str(tmp_path / name)} for name in ("learn", "examine")]
        assert of(ImageFolder, train=roots[0], test=roots[1]).n_classes == 3

    def test_an_unknown_argument_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"Birds has no argument 'm'; it has train, n, shift"):
            of(Birds, args={"m": 3})

    def test_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown dataset 'mnst': use one of digits, mnist"):
            of("mnst")


class TestImages:
    def test_labels_with_gaps_are_numbered_from_0(self) -> None:
        half = Listed(*[(torch.zeros(1, 2, 2), label) for label in (9, 3, 7, 3)])
        source = of((half, half))
        assert source.train_y.tolist() == [2, 0, 1, 0]
        assert source.n_classes == 3

    @pytest.mark.parametrize(
        "image",
        [
            torch.full((1, 3, 4), 7, dtype=torch.uint8),
            torch.full((3, 4), 7, dtype=torch.uint8),
            np.full((3, 4), 7, dtype=np.uint8),
            np.full((3, 4, 1), 7, dtype=np.uint8),
            Image.new("L", (4, 3), 7),
        ],
        ids=["tensor", "plane", "array", "channels last", "Pillow"],
    )
    def test_kinds(self, image: Any) -> None:
        source = paired(image)
        assert source.train_x.shape == (1, 1, 3, 4)
        assert (source.train_x.dtype, source.white) == (torch.uint8, 255)
        assert (source.train_x == 7).all()

    def test_floats_stay_as_they_are(self) -> None:
        source = paired(torch.full((3, 2, 2), -1.5, dtype=torch.float64))
        assert (source.train_x.dtype, source.white) == (torch.float32, 1)
        assert (source.train_x == -1.5).all()

    def test_grey_images_become_coloured_next_to_coloured_ones(self) -> None:
        grey, colour = Image.new("L", (2, 2), 9), Image.new("RGB", (2, 2), (1, 2, 3))
        source = paired(grey, colour)
        assert source.train_x[:, :, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3]]

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            (torch.zeros(1, 2, 3), r"sample 1 has the shape \(1, 2, 3\), but .* sample 0 has"),
            (torch.zeros(1, 2, 2).byte(), "sample 1 is torch.uint8, but .* sample 0 is torch.fl"),
            (torch.zeros(1, 2, 2).short(), "sample 1: its image is torch.int16, but must be uint8"),
            (torch.full((1, 2, 2), torch.nan), "sample 1: its image has values that are not fin"),
            (torch.zeros(7), r"sample 1: its image has the shape \(7,\), but must be \(C, H, W\)"),
            (torch.zeros(5, 4, 3), r"sample 1: its image has the shape .*: put the channels first"),
            ("bird", "sample 1: its image is a str, but must be an image or a tensor"),
            (Image.new("I;16", (2, 2)), "sample 1: it has more than 8 bits a channel"),
        ],
    )
    def test_an_odd_image_is_named(self, second: Any, message: str) -> None:
        with pytest.raises(ValueError, match=f"Listed \\(train\\), {message}"):
            paired(torch.zeros(1, 2, 2), second)

    @pytest.mark.parametrize("label", [-1, 0.5, True, "bird", torch.tensor(-3)])
    def test_an_odd_label_is_named(self, label: Any) -> None:
        half = Listed((torch.zeros(1, 2, 2), label))
        with pytest.raises(ValueError, match=r"\(train\), sample 0: its label is .* integer from"):
            of((half, half))

    def test_a_file_is_named(self, tmp_path: Path) -> None:
        for part in ("train", "test"):
            (tmp_path / part / "ant").mkdir(parents=True)
            for i, size in enumerate((4, 5)):
                Image.new("RGB", (size, size)).save(tmp_path / part / "ant" / f"{i}.png")
        halves = tuple(ImageFolder(str(tmp_path / part)) for part in ("train", "test"))
        with pytest.raises(ValueError, match=r"train/ant/1\.png has the shape .* give image_size"):
            of(halves)
        assert of(halves, image_size=3).train_x.shape == (2, 3, 3, 3)


class Shifted(Birds):
    """Images that are shifted at random whenever they are read."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return shifted(self.x[index]), self.y[index]


class Guessed(Birds):
    """Images whose labels are drawn whenever they are read."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x[index], int(torch.randint(4, ()))


class Drawing(Birds):
    """Images that stay the same although each reading draws a number."""

    def __getitem__(self, index: int) -> tuple[Any, int]:
        drawn.append(torch.rand(()).item())
        return super().__getitem__(index)


drawn: list[float] = []


def shifted(image: Tensor) -> Tensor:
    return image.roll(int(torch.randint(4, ())), -1)


class TestChangingSamples:
    @pytest.mark.parametrize("n", [4, 40, 1000])
    def test_random_images_are_refused(self, n: int) -> None:
        message = (
            r"Shifted \(train\): its samples change from one reading to the next, but .* list "
            "random transforms in train_transforms"
        )
        with pytest.raises(ValueError, match=message):
            split(Shifted, {"n": n}, n_experiences=2)
        with pytest.raises(ValueError, match=message):
            domains([Birds, {"name": Shifted, "args": {"n": n}}])

    def test_random_labels_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"Guessed \(train\): its samples change"):
            split(Guessed, n_experiences=2)

    def test_a_random_test_part_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"Birds \(test\): its samples change"):
            of((Birds(True), Shifted(False)))

    def test_random_transforms_of_torchvisions_data_are_refused(self) -> None:
        args = {"size": 20, "image_size": (3, 8, 8), "num_classes": 2}
        flip, crop = v2.RandomHorizontalFlip(), v2.CenterCrop(4)
        with pytest.raises(ValueError, match=r"FakeData \(train\): its samples change"):
            of(FakeData, args=args, train={"transform": flip}, test={"transform": None})
        halves = {part: {"transform": crop} for part in ("train", "test")}
        assert of(FakeData, args=args, **halves).train_x.shape == (20, 3, 4, 4)

    def test_train_transforms_may_be_random(self) -> None:
        benchmark = split(Birds, n_experiences=2, train_transforms=[shifted])
        dataset = benchmark.train_stream[0].dataset
        assert len({str(dataset[0][0]) for _ in range(40)}) == 4

    def test_the_second_reading_draws_other_numbers_and_leaves_no_trace(self) -> None:
        drawn.clear()
        torch.manual_seed(0)
        of((Drawing(True, 40), Birds(False)))
        after = torch.rand(())
        torch.manual_seed(0)
        first, second = drawn[:40], drawn[40:]
        assert first == [torch.rand(()).item() for _ in range(40)]
        assert after == torch.rand(())
        assert len(second) == 256
        assert not {*first} & {*second}


class TestOptions:
    def test_split(self) -> None:
        benchmark = split(Birds, {"n": 40}, test={"n": 20}, n_experiences=2, train_size=10)
        assert [e.dataset.y.unique().tolist() for e in benchmark.test_stream] == [[0, 1], [2, 3]]
        numbers = benchmark.train_stream[1].dataset.x[:, 0, 0, 1] * 256
        assert numbers.tolist() == [2, 3, 6, 7, 10, 11, 14, 15, 18, 19]

    def test_skip_passes_over_samples_of_the_whole_data_set(self) -> None:
        benchmark = split(Birds, n_experiences=2, skip=30, validation_size=4)
        drawn = [e.dataset.x[:, 0, 0, 1] * 256 for e in benchmark.train_stream]
        held = [e.dataset.x[:, 0, 0, 1] * 256 for e in benchmark.test_stream]
        assert sorted(torch.cat([*drawn, *held]).tolist()) == [*range(30, 40)]
        with pytest.raises(ValueError, match="skip=40 must be below 40"):
            split(Birds, n_experiences=2, skip=40)

    def test_standardise_permuted_images(self) -> None:
        plain = split("digits", n_experiences=1, standardise="pixel").train_stream[0].dataset.x
        benchmark = permuted("digits", n_experiences=3, standardise="pixel")
        for experience in benchmark.train_stream:
            x = experience.dataset.x
            torch.testing.assert_close(x.mean(0), torch.zeros(1, 8, 8), atol=1e-5, rtol=0)
            torch.testing.assert_close(rows(x).sort().values, rows(plain).sort().values)

    def test_standardise_rotated_images(self) -> None:
        plain = rotated("digits", n_experiences=3)
        benchmark = rotated("digits", n_experiences=3, standardise="channel")
        first = plain.train_stream[0].dataset.x
        for one, other in zip(benchmark.train_stream, plain.train_stream, strict=True):
            expected = (other.dataset.x - first.mean()) / first.std()
            torch.testing.assert_close(one.dataset.x, expected, atol=1e-3, rtol=0)
        with pytest.raises(ValueError, match="standardise"):
            rotated("digits", standardise="pixel")  # type: ignore[arg-type]

    def test_sizes_and_channels(self) -> None:
        benchmark = split("digits", n_experiences=5, image_size=12, channels=3, train_size=5)
        assert benchmark.train_stream[0].dataset.x.shape == (5, 3, 12, 12)

    def test_online(self) -> None:
        plain = split("digits", n_experiences=5, train_size=25)
        cut = split("digits", n_experiences=5, train_size=25, online=10, seed=3)
        assert [len(e.dataset) for e in cut.train_stream] == [10, 10, 5] * 5
        assert len(cut.test_stream) == 5
        assert cut.n_classes == 10
        for i, experience in enumerate(plain.train_stream):
            parts = torch.cat([e.dataset.x for e in cut.train_stream[3 * i : 3 * i + 3]])
            assert not torch.equal(parts, experience.dataset.x), "in random order"
            assert torch.equal(*(rows(x).unique(dim=0) for x in (parts, experience.dataset.x)))
        again = split("digits", n_experiences=5, train_size=25, online=10, seed=3)
        assert torch.equal(again.train_stream[7].dataset.x, cut.train_stream[7].dataset.x)

    @needs_mnist
    def test_torchvisions_mnist_is_ours(self) -> None:
        given = {"n_experiences": 5, "train_size": 50, "data_root": DATA_ROOT, "subset": "seed"}
        ours, theirs = split_mnist(**given), split(MNIST, **given)
        for name in ("train", "test"):
            for one, other in zip(ours.streams[name], theirs.streams[name], strict=True):
                assert torch.equal(one.dataset.x, other.dataset.x)
                assert torch.equal(one.dataset.y, other.dataset.y)


def rows(x: Tensor) -> Tensor:
    return x.flatten(1)


class TestDomains:
    def test_sizes_channels_and_scales_are_made_alike(self) -> None:
        colour = Listed(*[(Image.new("RGB", (5, 5), (255, 0, i)), i % 10) for i in range(20)])
        benchmark = domains(["digits", (colour, colour)], image_size=8)
        first, second = (e.dataset.x for e in benchmark.train_stream)
        assert first.shape[1:] == second.shape[1:] == (3, 8, 8)
        assert first.max() == second.max() == 1.0
        assert torch.equal(first[:, 0], first[:, 2])
        assert benchmark.n_classes == 10

    def test_entries_have_arguments(self) -> None:
        entries = [{"name": Birds, "args": {"n": 8}, "test": {"n": 4}}, Birds]
        benchmark = domains(entries)
        assert [len(e.dataset) for e in benchmark.train_stream] == [8, 40]
        assert [len(e.dataset) for e in benchmark.test_stream] == [4, 40]

    def test_scenarios(self) -> None:
        entries = [Birds, (Listed((torch.zeros(1, 4, 4), 5)), Listed((torch.zeros(1, 4, 4), 5)))]
        with pytest.raises(ValueError, match="Birds has 4 classes, but Listed has 1: use the scen"):
            domains(entries)
        own = domains(entries, scenario="class")
        assert [e.classes_in_this_experience for e in own.test_stream] == [[0, 1, 2, 3], [4]]
        assert own.n_classes == 5
        tasks = domains(entries, scenario="task")
        assert [e.task_labels for e in tasks.train_stream] == [[0], [1]]

    def test_order(self) -> None:
        entries = [{"name": Birds, "args": {"n": n}} for n in (4, 8, 12, 16)]
        orders = [
            [len(e.dataset) for e in domains(entries, order_seed=seed).train_stream]
            for seed in (1, 1, 2)
        ]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(orders[0]) == [4, 8, 12, 16]

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            (["digits", Birds], r"digits have the shape \(1, 8, 8\), but images of Birds \(1, 4"),
            ([], "datasets is empty"),
            ([{"args": {}}], "an entry has no name"),
            ([{"name": Birds, "arg": {}}], "an entry has the unknown key 'arg'"),
        ],
    )
    def test_what_does_not_fit(self, entries: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            domains(entries)
