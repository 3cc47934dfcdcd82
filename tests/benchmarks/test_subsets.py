"""Which samples of a task are used, and the labels of tasks whose samples lack a class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from avalanche.benchmarks import CLScenario

from avalanche_ext.benchmarks import (
    build_benchmark,
    domains,
    permuted_digits,
    rotated_digits,
    split_digits,
)
from avalanche_ext.benchmarks.datasets import digits
from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.tasks import (
    MissingClassesWarning,
    Seeds,
    Sizes,
    Task,
    limited,
    permuted,
    rotated,
    split_by_class,
)
from tests.benchmarks.cases import check_whose_seed_draws, each_subset, numbers, source

DIGITS = {"split": split_digits, "permuted": permuted_digits, "rotated": rotated_digits}


def cut(sizes: Sizes, seeds: Seeds | None = None, n_experiences: int = 3) -> list[Task]:
    return split_by_class(source(), n_experiences, sizes, seeds or Seeds(0, None))


def drawn(part: str, sizes: Sizes, seeds: Seeds | None = None) -> list[list[int]]:
    """The numbers of one part's samples in each task."""
    return [numbers(getattr(task, f"{part}_x")) for task in cut(sizes, seeds)]


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ("seed", [[0, 6, 19, 43], [8, 45, 56, 57], [16, 22, 34, 35]]),
        ("order", [[24, 25, 42, 55], [14, 15, 50, 51], [16, 23, 34, 40]]),
    ],
)
def test_runs_draw_the_samples_that_stored_results_were_trained_on(
    subset: Any, expected: list[list[int]]
) -> None:
    """They were drawn before there were pools and test subsets."""
    assert drawn("train", Sizes(4, None, subset), Seeds(3, None)) == expected


class TestPool:
    @pytest.mark.parametrize("subset", ["order", "seed"])
    def test_random_subsets_are_of_the_pool_and_reach_all_of_it(self, subset: Any) -> None:
        pools = drawn("train", Sizes(None, None, subset, pool=12))
        reached: list[set[int]] = [set() for _ in pools]
        for seed in range(20):
            subsets = drawn("train", Sizes(9, None, subset, pool=12), Seeds(seed, None))
            for samples, held in zip(subsets, reached, strict=True):
                assert len({*samples}) == 9
                held |= {*samples}
        if subset == "seed":
            assert reached == [{*pool} for pool in pools]
        assert all(held <= {*pool} for held, pool in zip(reached, pools, strict=True))

    def test_the_pool_is_a_random_sample_that_all_runs_share(self) -> None:
        pools = drawn("train", Sizes(None, None, "first", pool=12))
        assert all(len({*pool}) == 12 for pool in pools)
        assert pools != drawn("train", Sizes(12, None, "first"))
        for subset in ("first", "order", "seed"):
            for order in (None, "seed", 0):
                seeds = Seeds(5, order)
                (whole,) = cut(Sizes(None, None, subset, pool=12), seeds, n_experiences=1)
                (same,) = cut(Sizes(None, None, "first", pool=12), n_experiences=1)
                assert sorted(numbers(whole.train_x)) == sorted(numbers(same.train_x))
        (other,) = cut(Sizes(None, None, "first", pool=12), Seeds(0, 7), n_experiences=1)
        assert sorted(numbers(other.train_x)) != sorted(numbers(same.train_x))

    def test_the_first_samples_are_the_first_of_the_pool(self) -> None:
        pools = drawn("train", Sizes(None, None, "first", pool=12))
        first = drawn("train", Sizes(8, None, "first", pool=12))
        assert first == [pool[:8] for pool in pools]

    def test_all_of_the_pool_can_be_used(self) -> None:
        pools = drawn("train", Sizes(None, None, "first", pool=12))
        assert drawn("train", Sizes(12, None, "seed", pool=12)) == pools

    def test_tasks_of_the_same_images_have_the_same_pool(self) -> None:
        benchmark = permuted_digits(n_experiences=3, pool_size=30)
        labels = [experience.dataset.y.tolist() for experience in benchmark.train_stream]
        pixels = [e.dataset.x.flatten(1).sort(dim=1).values for e in benchmark.train_stream]
        assert labels[0] == labels[1] == labels[2]
        assert torch.equal(pixels[0], pixels[1])

    @pytest.mark.parametrize("subset", ["first", "order", "seed"])
    def test_a_pool_of_all_samples_is_none(self, subset: Any) -> None:
        limited, unlimited = (Sizes(8, None, subset, pool=pool) for pool in (20, None))
        assert drawn("train", limited) == drawn("train", unlimited)

    @pytest.mark.parametrize("subset", ["first", "seed"])
    @pytest.mark.parametrize(
        ("train", "pool", "message"),
        [
            (None, 21, "pool_size=21, but experience 0 has 20 samples"),
            (8, 21, "pool_size=21, but experience 0 has 20 samples"),
            (13, 12, "train_size=13 is more than pool_size=12: the training samples are chosen"),
        ],
    )
    def test_impossible_sizes_are_named(
        self, train: int | None, pool: int, message: str, subset: Any
    ) -> None:
        with pytest.raises(ValueError, match=message):
            cut(Sizes(train, None, subset, pool=pool))


class TestTestSubset:
    @each_subset
    def test_whose_seed_draws_it(
        self, subset: Any, order: Any, follows_run: bool, follows_order: bool
    ) -> None:
        def test_samples(run: int, order_seed: Any) -> list[int]:
            sizes = Sizes(None, 10, "first", test_subset=subset)
            (task,) = cut(sizes, Seeds(run, order_seed), n_experiences=1)
            assert len(task.test_x) == len({*numbers(task.test_x)}) == 10
            return numbers(task.test_x)

        check_whose_seed_draws(test_samples, order, follows_run, follows_order)

    def test_samples_keep_their_labels_and_the_order_of_the_data(self) -> None:
        for task in cut(Sizes(None, 7, "first", test_subset="seed")):
            held = numbers(task.test_x)
            assert held == sorted(held)
            assert task.test_y.tolist() == [(number - 1000) % 6 for number in held]

    def test_all_are_all(self) -> None:
        whole = drawn("test", Sizes(None, None, "first"))
        assert drawn("test", Sizes(None, None, "first", test_subset="seed")) == whole

    @pytest.mark.parametrize("subset", ["first", "order", "seed"])
    def test_training_samples_are_drawn_as_without_it(self, subset: Any) -> None:
        before, after = (Sizes(8, 7, subset, test_subset=test) for test in ("first", "seed"))
        assert drawn("train", before) == drawn("train", after)

    def test_both_parts_are_drawn_apart(self) -> None:
        """Equal draws would tie which samples are trained on to which are tested."""
        seeds = Seeds(3, 3)
        for subset in ("order", "seed"):
            train, test = (seeds.subset_generator(subset, part) for part in ("train", "test"))
            assert train.random() != test.random()


@pytest.mark.parametrize("name", DIGITS)
class TestDigits:
    def test_runs_draw_from_one_pool(self, name: str) -> None:
        def first_task(**given: Any) -> set[tuple[float, ...]]:
            data = DIGITS[name](**given).train_stream[0].dataset
            return {tuple(row) for row in data.x.flatten(1).tolist()}

        pool = first_task(pool_size=60)
        subsets = [
            first_task(train_size=50, pool_size=60, subset="seed", seed=seed) for seed in (0, 1)
        ]
        assert subsets[0] != subsets[1]
        assert subsets[0] | subsets[1] <= pool

    def test_test_samples_are_drawn_for_each_run_and_task(self, name: str) -> None:
        def labels(seed: int) -> list[list[int]]:
            benchmark = DIGITS[name](test_size=40, test_subset="seed", seed=seed)
            return [experience.dataset.y.tolist() for experience in benchmark.test_stream]

        assert labels(0) == labels(0)
        assert labels(0) != labels(1)
        assert all(len(task) == 40 for task in labels(0))
        if name != "split":
            assert labels(0)[0] != labels(0)[1]

    def test_no_random_number_is_drawn_from_the_global_generator(self, name: str) -> None:
        before = torch.get_rng_state()
        DIGITS[name](test_subset="seed", test_size=20, pool_size=30, subset="seed", train_size=20)
        assert torch.equal(torch.get_rng_state(), before)

    def test_wrong_arguments_are_named(self, name: str) -> None:
        with pytest.raises(ValueError, match="pool_size"):
            DIGITS[name](pool_size=0)
        with pytest.raises(ValueError, match="test_subset"):
            DIGITS[name](test_subset="last")
        with pytest.raises(ValueError, match="pool_size=5000, but experience 0 has"):
            DIGITS[name](pool_size=5000)


def two_digits(**given: Any) -> CLScenario:
    """A benchmark of two data sets, which are the same."""
    return domains(["digits", "digits"], **given)


class TestLabels:
    """Equal classes have equal labels, whichever classes the samples of an experience have."""

    @pytest.mark.parametrize("given", [{}, {"validation_size": 300}, {"order_seed": 1}])
    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize(
        ("make", "scenario"),
        [
            *((split_digits, scenario) for scenario in ("class", "domain", "task")),
            *((permuted_digits, scenario) for scenario in ("domain", "task")),
            *((rotated_digits, scenario) for scenario in ("domain", "task")),
            *((two_digits, scenario) for scenario in ("class", "domain", "task")),
        ],
    )
    def test_a_missing_class_changes_no_label(
        self, make: Any, scenario: str, seed: int, given: dict[str, Any]
    ) -> None:
        given = {"scenario": scenario, "seed": seed, **given}
        if make is not two_digits:
            given["n_experiences"] = 2
        n = 4 if make is split_digits else 9
        subset = {"train_size": n, "subset": "seed", "test_size": n, "test_subset": "seed"}
        whole, few = make(**given), make(**given, **subset)
        for name in ("n_classes", "n_classes_per_exp", "classes_order"):
            assert getattr(few, name) == getattr(whole, name)
        n_classes = few.n_classes_per_exp[0]
        for name, stream in few.streams.items():
            for experience in stream:
                x, y = experience.dataset.x, experience.dataset.y
                complete = whole.streams[name][experience.current_experience].dataset
                labels = dict(zip(map(key, complete.x), complete.y.tolist(), strict=True))
                assert [labels[key(image)] for image in x] == y.tolist()
                held = sorted({*y.tolist()})
                assert experience.classes_in_this_experience == held
                assert len(held) < n_classes, "or nothing is tested"

    @pytest.mark.parametrize("scenario", ["class", "domain", "task"])
    @pytest.mark.parametrize("order", [None, 5])
    def test_labels_of_stored_results_stay(self, scenario: Any, order: Any) -> None:
        """They counted the classes of a task's samples, so tasks with all classes are the same."""
        sizes, seeds = Sizes(200, 80, "seed", test_subset="seed"), Seeds(3, order)
        made: list[Sequence[Task]] = [split_by_class(digits(), n, sizes, seeds) for n in (2, 5)]
        if scenario != "class":
            made.append(permuted(digits(), 2, sizes, seeds, first_is_identity=False))
            made.append(rotated(digits(), 2, sizes, seeds, 180.0, "bilinear"))
            made.append(limited([digits(), digits()], sizes, seeds))
        for tasks in made:
            ours = build_benchmark(tasks, scenario)
            theirs = build_benchmark([replace(task, classes=None) for task in tasks], scenario)
            assert ours.n_classes == theirs.n_classes
            assert ours.n_classes_per_exp == theirs.n_classes_per_exp
            assert ours.classes_order == theirs.classes_order
            for name, stream in ours.streams.items():
                for one, other in zip(stream, theirs.streams[name], strict=True):
                    assert torch.equal(one.dataset.y, other.dataset.y)


def key(image: torch.Tensor) -> tuple[float, ...]:
    return tuple(image.flatten().tolist())


def by_class(n_classes: int = 4, n: int = 10) -> Source:
    """A data set whose samples are sorted by class, as folders of images are."""
    x, y = torch.zeros(n_classes * n, 1, 2, 2), torch.arange(n_classes).repeat_interleave(n)
    return Source(x, y, x, y, n_classes=n_classes)


class TestMissingClasses:
    @pytest.mark.parametrize(
        ("n_experiences", "sizes", "expected"),
        [
            (
                4,
                Sizes(3, 3, "first"),
                [],
            ),
            (
                2,
                Sizes(10, None, "first"),
                [
                    "subset is first, and the first 10 training samples (train_size) of experience "
                    "0 hold only 1 of its 2 classes (without class 1), and 1 other experience "
                    "lacks classes too: use subset: seed"
                ],
            ),
            (
                1,
                Sizes(11, 15, "first"),
                [
                    "subset is first, and the first 11 training samples (train_size) of experience "
                    "0 hold only 2 of its 4 classes (without classes 2, 3): use subset: seed",
                    "test_subset is first, and the first 15 test samples (test_size) of experience "
                    "0 hold only 2 of its 4 classes (without classes 2, 3): use test_subset: seed",
                ],
            ),
            (1, Sizes(31, 31, "first"), []),
            (1, Sizes(None, None, "first"), []),
            (1, Sizes(3, 3, "seed", test_subset="order"), []),
            (1, Sizes(None, None, "first", pool=3), []),
        ],
    )
    def test_first_samples_of_a_sorted_data_set(
        self, n_experiences: int, sizes: Sizes, expected: list[str]
    ) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            split_by_class(by_class(), n_experiences, sizes, Seeds(0, None))
        assert [str(each.message) for each in caught] == expected
        assert all(each.category is MissingClassesWarning for each in caught)

    def test_other_benchmarks(self) -> None:
        sizes, seeds, pool = Sizes(5, None, "first"), Seeds(0, None), Sizes(5, None, "first", 30)
        with pytest.warns(MissingClassesWarning, match="hold only 1 of its 4 classes"):
            permuted(by_class(), 2, sizes, seeds, first_is_identity=True)
        with pytest.warns(MissingClassesWarning, match="hold only 1 of its 4 classes"):
            limited([by_class()], sizes, seeds)
        with pytest.warns(MissingClassesWarning, match="hold only 1 of its 4 classes"):
            split_by_class(by_class(), 1, pool, seeds)

    def test_many_classes_are_not_all_listed(self) -> None:
        with pytest.warns(MissingClassesWarning, match=r"\(without classes 1, 2, 3, 4, 5, …\)"):
            split_by_class(by_class(8), 1, Sizes(5, None, "first"), Seeds(0, None))

    def test_classes_without_data_are_not_missed(self) -> None:
        data = replace(by_class(), n_classes=5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            split_by_class(data, 1, Sizes(31, None, "first"), Seeds(0, None))
