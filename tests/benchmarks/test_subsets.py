"""Which samples of a task are used: pools of training samples, subsets of test samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from avalanche_ext.benchmarks import permuted_digits, rotated_digits, split_digits
from avalanche_ext.benchmarks.tasks import Seeds, Sizes, Task, split_by_class
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
