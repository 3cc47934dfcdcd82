"""How a data set is cut: by class, by permutation, and to what sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.benchmarks.sources import Source
from avalanche_ext.benchmarks.tasks import (
    Seeds,
    Sizes,
    Task,
    permuted,
    split_by_class,
)
from tests.benchmarks.cases import check_whose_seed_draws, each_subset, made, numbers, source

ALL = Sizes(None, None, "first")


def classes(task: Task) -> list[int]:
    held: list[int] = torch.unique(task.train_y).tolist()
    assert torch.unique(task.test_y).tolist() == held
    return held


class TestSplitByClass:
    def test_canonical_order_ascends(self) -> None:
        tasks = split_by_class(source(), 3, ALL, Seeds(5, None))
        assert [classes(task) for task in tasks] == [[0, 1], [2, 3], [4, 5]]

    @given(st.sampled_from([1, 2, 3, 6]), st.integers(0, 1000))
    def test_every_sample_is_in_one_task(self, n_experiences: int, seed: int) -> None:
        tasks = split_by_class(source(), n_experiences, ALL, Seeds(0, seed))
        for part, first, n in (("train", 0, 60), ("test", 1000, 30)):
            seen = []
            for task in tasks:
                x, y = getattr(task, f"{part}_x"), getattr(task, f"{part}_y")
                assert y.tolist() == [i % 6 for i in (j - first for j in numbers(x))]
                assert numbers(x) == sorted(numbers(x)), "the data set's own order"
                seen += numbers(x)
            assert sorted(seen) == [*range(first, first + n)]
        assert sorted(label for task in tasks for label in classes(task)) == [*range(6)]
        assert {len(classes(task)) for task in tasks} == {6 // n_experiences}

    def test_order_seed_decides_the_order(self) -> None:
        def order(run: int, order_seed: Any) -> list[list[int]]:
            return [
                classes(task) for task in split_by_class(source(), 6, ALL, Seeds(run, order_seed))
            ]

        assert order(0, 3) == order(1, 3), "whatever the run"
        assert order(0, 3) != order(0, 4)
        assert order(0, 0) != [[i] for i in range(6)]
        assert order(0, "seed") != order(1, "seed")
        assert order(0, "seed") == order(0, "seed")

    @pytest.mark.parametrize("n_experiences", [4, 5, 7, 12])
    def test_classes_must_divide_equally(self, n_experiences: int) -> None:
        message = f"n_experiences={n_experiences} does not divide the 6 classes"
        with pytest.raises(ValueError, match=message):
            split_by_class(source(), n_experiences, ALL, Seeds(0, None))


class TestSizes:
    def test_first_samples(self) -> None:
        tasks = split_by_class(source(), 3, Sizes(4, 3, "first"), Seeds(9, None))
        assert [numbers(task.train_x) for task in tasks] == [
            [0, 1, 6, 7],
            [2, 3, 8, 9],
            [4, 5, 10, 11],
        ]
        assert numbers(tasks[1].test_x) == [1002, 1003, 1008]
        assert tasks[1].test_y.tolist() == [2, 3, 2]

    @each_subset
    def test_whose_seed_draws_the_subset(
        self, subset: Any, order: Any, follows_run: bool, follows_order: bool
    ) -> None:
        def drawn(run: int, order_seed: Any) -> list[list[int]]:
            tasks = permuted(
                source(), 3, Sizes(10, None, subset), Seeds(run, order_seed), first_is_identity=True
            )
            assert all(len(task.train_x) == 10 for task in tasks)
            return [task.train_y.tolist() for task in tasks]

        check_whose_seed_draws(drawn, order, follows_run, follows_order)

    @pytest.mark.parametrize("subset", ["order", "seed"])
    def test_random_subsets_differ_between_tasks_and_repeat_no_sample(self, subset: Any) -> None:
        tasks = permuted(source(), 2, Sizes(30, None, subset), Seeds(0, 0), first_is_identity=False)
        drawn = [[int(v) for v in made(task.train_x).flatten(1).amax(1).tolist()] for task in tasks]
        assert drawn[0] != drawn[1]
        for rows in drawn:
            assert len({*rows} - {0}) >= 29, "pixel values below 1 tell nothing of sample 0"
            assert rows == sorted(rows), "the data set's own order"

    @pytest.mark.parametrize("subset", ["order", "seed"])
    def test_subsets_are_drawn_apart_from_orders(self, subset: Any) -> None:
        """Equal draws for both would tie which classes come first to which samples are used."""
        seeds = Seeds(3, 3)
        assert seeds.subset_generator(subset).random() != seeds.order_generator().random()
        few, whole = (
            split_by_class(source(), 3, sizes, Seeds(0, 2)) for sizes in (Sizes(5, 9, subset), ALL)
        )
        assert [classes(task) for task in few] == [classes(task) for task in whole]

    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            (Sizes(21, None, "first"), "train_size=21, but experience 0 has 20 samples"),
            (Sizes(21, None, "seed"), "train_size=21, but experience 0 has 20 samples"),
            (Sizes(None, 11, "first"), "test_size=11, but experience 0 has 10 samples"),
        ],
    )
    def test_too_many(self, sizes: Sizes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            split_by_class(source(), 3, sizes, Seeds(0, None))

    def test_as_many_as_there_are(self) -> None:
        (task,) = split_by_class(source(), 1, Sizes(60, 30, "seed"), Seeds(0, None))
        assert numbers(task.train_x) == [*range(60)]


class TestPermuted:
    @staticmethod
    def permutations(run: int, order: Any, first_is_identity: bool = False) -> list[list[int]]:
        """The permutation of each task, read off an image whose pixels are numbered."""
        image = torch.arange(64.0).view(1, 1, 8, 8).expand(3, 1, 8, 8)
        numbered = Source(image, torch.arange(3), image, torch.arange(3), n_classes=3)
        tasks = permuted(numbered, 4, ALL, Seeds(run, order), first_is_identity)
        found = []
        for task in tasks:
            train_x, test_x = made(task.train_x), made(task.test_x)
            assert train_x.shape == image.shape
            rows = torch.cat([train_x, test_x]).flatten(1)
            assert len(torch.unique(rows, dim=0)) == 1, "one permutation for all of a task"
            found.append([int(v) for v in rows[0].tolist()])
        return found

    @pytest.mark.parametrize("order", [None, 7, "seed"])
    def test_each_task_has_a_permutation_of_its_own(self, order: Any) -> None:
        found = self.permutations(0, order)
        assert all(sorted(permutation) == [*range(64)] for permutation in found)
        assert len({tuple(permutation) for permutation in [*found, [*range(64)]]}) == 5

    def test_the_first_may_be_the_identity(self) -> None:
        plain, shifted = self.permutations(0, None), self.permutations(0, None, True)
        assert shifted == [[*range(64)], *plain[1:]]

    def test_order_seed_decides(self) -> None:
        assert self.permutations(0, None) == self.permutations(1, None)
        assert self.permutations(0, 3) == self.permutations(1, 3)
        assert self.permutations(0, 3) != self.permutations(0, 4)
        assert self.permutations(0, "seed") != self.permutations(1, "seed")

    def test_labels_and_source_are_left_alone(self) -> None:
        data = source()
        before = data.train_x.clone()
        for task in permuted(data, 3, ALL, Seeds(0, None), first_is_identity=False):
            assert torch.equal(task.train_y, data.train_y)
            made(task.train_x).zero_()
        assert torch.equal(data.train_x, before)
