"""The benchmarks of experiment files, on embedded digits and on real MNIST."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.benchmarks import CLScenario, SplitMNIST
from avalanche.core import SupervisedPlugin
from torch import Tensor
from torchvision.datasets import MNIST

from avalanche_ext.benchmarks import (
    permuted_digits,
    permuted_mnist,
    rotated_digits,
    rotated_mnist,
    split_digits,
    split_mnist,
)
from avalanche_ext.benchmarks.datasets import digits
from avalanche_ext.data import InMemoryDataset, InMemoryLoaders
from avalanche_ext.models.catalogue import mlp
from tests.cases import DATA_ROOT, needs_mnist, quiet

DIGITS = {"split": split_digits, "permuted": permuted_digits, "rotated": rotated_digits}


def content(benchmark: CLScenario) -> list[list[Tensor]]:
    """All tensors of all experiences, training before test."""
    return [
        [e.dataset.x, e.dataset.y, e.dataset.t]
        for name in ("train", "test")
        for e in benchmark.streams[name]
    ]


def same(ours: list[list[Tensor]], theirs: list[list[Tensor]]) -> bool:
    return len(ours) == len(theirs) and all(
        all(map(torch.equal, a, b)) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("name", DIGITS)
class TestDigits:
    def test_sizes_and_shapes(self, name: str) -> None:
        benchmark = DIGITS[name](n_experiences=5, train_size=70, test_size=30)
        assert benchmark.n_classes == 10
        for stream, n in ((benchmark.train_stream, 70), (benchmark.test_stream, 30)):
            assert len(stream) == 5
            for experience in stream:
                assert isinstance(experience.dataset, InMemoryDataset)
                assert experience.dataset.x.shape == (n, 1, 8, 8)
                assert 0 <= experience.dataset.x.min() < experience.dataset.x.max() <= 1

    def test_the_run_decides_nothing_unless_asked(self, name: str) -> None:
        torch.manual_seed(0)
        first = content(DIGITS[name](seed=0))
        torch.manual_seed(1)
        assert same(first, content(DIGITS[name](seed=1)))
        assert same(
            content(DIGITS[name](order_seed=4)), content(DIGITS[name](order_seed=4, seed=1))
        )

    @pytest.mark.parametrize(
        "asked", [{"order_seed": "seed"}, {"subset": "seed", "train_size": 50}]
    )
    def test_the_run_decides_where_asked(self, name: str, asked: dict[str, Any]) -> None:
        first, again, other = (content(DIGITS[name](seed=seed, **asked)) for seed in (0, 0, 1))
        assert same(first, again)
        assert not same(first, other)

    def test_a_random_subset_is_of_the_training_part_only(self, name: str) -> None:
        first, other = (DIGITS[name](subset="seed", train_size=50, seed=seed) for seed in (0, 1))
        for ours, theirs in zip(first.test_stream, other.test_stream, strict=True):
            assert torch.equal(ours.dataset.x, theirs.dataset.x)

    def test_no_random_number_is_drawn_from_the_global_generator(self, name: str) -> None:
        before = torch.get_rng_state()
        DIGITS[name](order_seed="seed", subset="seed", train_size=20)
        assert torch.equal(torch.get_rng_state(), before)

    def test_task_labels(self, name: str) -> None:
        benchmark = DIGITS[name](n_experiences=5, scenario="task")
        for i, (train, test) in enumerate(
            zip(benchmark.train_stream, benchmark.test_stream, strict=True)
        ):
            assert train.task_label == test.task_label == i
            n_classes = 2 if name == "split" else 10
            assert train.classes_in_this_experience == [*range(n_classes)]
        assert benchmark.n_classes == n_classes

    def test_too_large_a_training_subset(self, name: str) -> None:
        with pytest.raises(ValueError, match="train_size=5000, but experience 0 has"):
            DIGITS[name](train_size=5000)


def test_split_digits_is_a_partition() -> None:
    benchmark = split_digits()
    assert [e.classes_in_this_experience for e in benchmark.train_stream] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
        [8, 9],
    ]
    assert sum(len(e.dataset) for e in benchmark.train_stream) == 1347
    assert sum(len(e.dataset) for e in benchmark.test_stream) == 450
    for experience in benchmark.test_stream:
        wanted = torch.isin(digits().test_y, torch.tensor(experience.classes_in_this_experience))
        assert torch.equal(experience.dataset.x, digits().test_x[wanted] / 16)


def test_domain_split_counts_from_zero() -> None:
    benchmark = split_digits(scenario="domain")
    assert benchmark.n_classes == 2
    for i, experience in enumerate(benchmark.train_stream):
        assert experience.task_label == 0
        original = split_digits().train_stream[i].dataset.y
        assert torch.equal(experience.dataset.y, original - 2 * i)


def test_rotated_digits_start_upright_and_end_at_the_largest_angle() -> None:
    benchmark = rotated_digits(n_experiences=3, max_angle=180)
    upright, quarter, over = (e.dataset.x for e in benchmark.test_stream)
    torch.testing.assert_close(upright, digits().test_x / 16, atol=1e-5, rtol=0)
    torch.testing.assert_close(quarter, digits().test_x.rot90(1, (2, 3)) / 16, atol=1e-5, rtol=0)
    torch.testing.assert_close(over, digits().test_x.flip(2, 3) / 16, atol=1e-5, rtol=0)


def test_permuted_digits_may_start_unpermuted() -> None:
    benchmark = permuted_digits(n_experiences=2, first_is_identity=True)
    first, second = (e.dataset.x for e in benchmark.train_stream)
    assert torch.equal(first, digits().train_x / 16)
    assert not torch.equal(second, first)
    assert torch.equal(second.flatten(1).sort(1)[0], first.flatten(1).sort(1)[0])


def test_not_divisible() -> None:
    with pytest.raises(ValueError, match="n_experiences=4 does not divide the 10 classes"):
        split_digits(n_experiences=4)


def test_augmentation_redraws_in_training_only() -> None:
    benchmark = split_digits(train_size=40, augment=True)
    clean = split_digits(train_size=40)
    train, test = benchmark.train_stream[0].dataset, benchmark.test_stream[0].dataset
    rows = torch.arange(40)
    first, second = (train.fetch(rows)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert first.shape == second.shape == (40, 1, 8, 8)
    assert torch.equal(train.eval().fetch(rows)[0], clean.train_stream[0].dataset.x)
    assert torch.equal(test.train().fetch(rows)[0], test.x[:40])
    assert all(
        any(torch.equal(image, candidate) for candidate in _crops_and_flips(original))
        for image, original in zip(first, train.x, strict=True)
    )


def _crops_and_flips(image: Tensor) -> list[Tensor]:
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    crops = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    return crops + [crop.flip(2) for crop in crops]


class Accuracy(SupervisedPlugin):  # type: ignore[misc]
    """The share of right answers in everything that is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.right: list[bool] = []

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        self.right += (strategy.mb_output.argmax(1) == strategy.mb_y).tolist()


@pytest.mark.parametrize("plugins", [[], [InMemoryLoaders()]], ids=["plain", "in memory"])
def test_task_incremental_training_with_a_head_for_each_task(plugins: list[Any]) -> None:
    torch.manual_seed(0)
    benchmark = split_digits(scenario="task", train_size=120)
    model = mlp([30], multi_head=True, input_shape=(1, 8, 8), n_classes=benchmark.n_classes)
    accuracy = Accuracy()
    strategy = quiet(model=model, plugins=[*plugins, accuracy], train_epochs=3)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert len(accuracy.right) == 450
    assert sum(accuracy.right) / 450 > 0.85, "one head for all would be at chance on old tasks"
    x, _, t = benchmark.test_stream[2].dataset.fetch(torch.arange(4))
    assert model(x, t).shape == (4, 2)


@needs_mnist
class TestMNIST:
    @pytest.mark.parametrize("order_seed", [None, 1])
    def test_split_is_that_of_avalanche(self, order_seed: int | None) -> None:
        """Class by class, since Avalanche sorts the samples of an experience by class.

        Of the pixels every 25th sample's are compared, since Avalanche is slow.
        """
        ours = split_mnist(order_seed=order_seed, data_root=DATA_ROOT)
        assert (ours.classes_order == [*range(10)]) is (order_seed is None)
        theirs = SplitMNIST(
            5,
            fixed_class_order=ours.classes_order,
            train_transform=None,
            eval_transform=None,
            dataset_root=DATA_ROOT,
        )
        for name, n in (("train", 60_000), ("test", 10_000)):
            assert sum(len(e.dataset) for e in ours.streams[name]) == n
            for a, b in zip(ours.streams[name], theirs.streams[name], strict=True):
                assert a.classes_in_this_experience == sorted(b.classes_in_this_experience)
                for label in a.classes_in_this_experience:
                    held = a.dataset.x[a.dataset.y == label]
                    rows = list(b.dataset.targets.val_to_idx[label])
                    assert len(held) == len(rows)
                    pixels = torch.stack([b.dataset[row][0] for row in rows[::25]])
                    assert torch.equal(held[::25], pixels)

    def test_samples_are_in_the_files_order(self) -> None:
        """As the DRL paper's protocol, which trains on the first of them, needs."""
        benchmark = split_mnist(train_size=1000, data_root=DATA_ROOT)
        whole = MNIST(DATA_ROOT)
        for experience in benchmark.train_stream:
            wanted = torch.isin(
                whole.targets, torch.tensor(experience.classes_in_this_experience)
            ).nonzero()[:1000, 0]
            assert torch.equal(experience.dataset.y, whole.targets[wanted])
            assert torch.equal(
                experience.dataset.x[:, 0].mul(255).round().byte(), whole.data[wanted]
            )

    @pytest.mark.parametrize("make", [permuted_mnist, rotated_mnist])
    def test_permuted_and_rotated(self, make: Any) -> None:
        benchmark = make(n_experiences=3, train_size=50, test_size=20, data_root=DATA_ROOT)
        upright = split_mnist(n_experiences=1, train_size=50, data_root=DATA_ROOT)
        for experience in benchmark.train_stream:
            assert experience.dataset.x.shape == (50, 1, 28, 28)
            assert torch.equal(experience.dataset.y, upright.train_stream[0].dataset.y)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"subset": "frist"}, "subset"),
        ({"scenario": "clas"}, "scenario"),
        ({"n_experiences": 0}, "n_experiences"),
        ({"train_size": -3}, "train_size"),
        ({"order_seed": "sed"}, "order_seed"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        split_digits(**wrong)
