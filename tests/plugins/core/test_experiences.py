"""What plugins ask of an experience that has been learned."""

import pickle

import pytest
import torch
from avalanche.benchmarks import (
    FixedSizeExperienceSplitter,
    OnlineCLExperience,
    benchmark_from_datasets,
    split_online_stream,
    with_classes_timeline,
)

from avalanche_ext.data import InMemoryDataset
from avalanche_ext.plugins.core.experiences import Endings, draw_samples
from tests.cases import digits, plain_benchmark

CPU = torch.device("cpu")


def parts(size, **given):
    """Three experiences of 30 samples cut into parts, and the experience that each was cut from."""
    benchmark = digits(n_experiences=5, train_size=30)
    return split_online_stream(benchmark.train_stream[:3], size, seed=0, **given)


def endings(stream):
    """Of each experience its origin's index, and whether that ends with it."""
    told = Endings()
    return [(e.logging().origin_experience.current_experience, told.ends(e)) for e in stream]


def test_a_plain_experience_ends_with_itself():
    told = Endings()
    assert all(told.ends(experience) for experience in digits(train_size=30).train_stream)


@pytest.mark.parametrize("access", [False, True])
@pytest.mark.parametrize("size", [1, 7, 10, 30, 40])
def test_an_experience_ends_with_its_last_part(size, access):
    found = endings(parts(size, access_task_boundaries=access))
    n_parts = -(-30 // size)
    expected = [(i, part == n_parts - 1) for i in range(3) for part in range(n_parts)]
    assert found == expected


@pytest.mark.parametrize("size", [7, 10])
def test_what_is_dropped_is_not_waited_for(size):
    n_parts = 30 // size
    expected = [(i, part == n_parts - 1) for i in range(3) for part in range(n_parts)]
    assert endings(parts(size, drop_last=True)) == expected


@pytest.mark.parametrize("access", [False, True])
def test_an_experience_may_be_learned_again(access):
    stream = [*parts(10, access_task_boundaries=access)][:3]
    ends = [False, False, True]
    assert [has_ended for _, has_ended in endings(stream * 3)] == ends * 3
    broken_off = stream[:1] + stream
    assert [has_ended for _, has_ended in endings(broken_off)] == [False, *ends]


def test_where_the_number_of_parts_is_not_said_the_last_may_say_so_itself():
    origin = digits(train_size=30).train_stream[0]

    def part(is_last):
        return OnlineCLExperience(
            dataset=origin.dataset, origin_experience=origin, is_last_subexp=is_last
        )

    told = Endings()
    assert [told.ends(part(is_last)) for is_last in (False, False, True)] == [False, False, True]


def test_parts_are_counted_again_when_an_experience_is_learned_again():
    """Here only the number of parts says where it ends."""
    origin = digits(train_size=30).train_stream[0]
    part = OnlineCLExperience(dataset=origin.dataset, origin_experience=origin, sub_stream_length=3)
    told = Endings()
    assert [told.ends(part) for _ in range(6)] == [False, False, True] * 2


@pytest.mark.parametrize("access", [False, True])
@pytest.mark.parametrize("size", [7, 10, 30])
def test_a_part_that_is_learned_several_times_counts_once(size, access):
    stream = [*parts(size, access_task_boundaries=access)]
    told, found = Endings(), []
    for part in stream:
        for _ in range(3):
            found.append((told.ends(part), told.is_over))
    expected = []
    for i in range(len(stream)):
        is_last = (i + 1) % -(-30 // size) == 0
        expected += [(is_last, is_last), *[(False, is_last)] * 2]
    assert found == expected


def test_parts_may_come_in_any_order_and_again():
    first, second, third = [*parts(10)][:3]
    told = Endings()
    order = [second, first, second, first, third, third]
    assert [told.ends(part) for part in order] == [False, False, False, False, True, False]


def test_after_its_end_another_part_begins_an_experience_again():
    first, second, third, *_ = parts(10)
    told = Endings()
    for _ in range(2):
        learned = [(told.ends(part), told.is_over) for part in (first, second, third, third)]
        assert learned == [(False, False), (False, False), (True, True), (False, True)]


def test_parts_that_come_from_no_stream_count_at_each_call():
    origin = digits(train_size=30).train_stream[0]
    for n_passes in (1, 2):
        told = Endings()
        broken_off = [*FixedSizeExperienceSplitter(origin, 10, seed=0)][: n_passes - 1]
        whole = [*FixedSizeExperienceSplitter(origin, 10, seed=0)] * n_passes
        assert not any(told.ends(part) for part in broken_off)
        assert [told.ends(part) for part in whole] == [False, False, True] * n_passes


def test_a_pickle_goes_on_counting():
    stream = [part for part in parts(10) for _ in range(2)]
    told, found = Endings(), []
    for part in stream:
        found.append(told.ends(part))
        told = pickle.loads(pickle.dumps(told))
    assert found == [False, False, False, False, True, False] * 3


def drawn(experience, n, seed=0):
    return draw_samples(experience, n, torch.Generator().manual_seed(seed), CPU)


def test_samples_are_drawn_without_replacement_in_the_order_of_the_data_set():
    experience = digits("permuted", train_size=40).train_stream[1]
    data = experience.dataset
    x, y, t = drawn(experience, 15)
    rows = [int((data.x == sample).flatten(1).all(dim=1).nonzero()[0, 0]) for sample in x]
    assert len({*rows}) == len(rows) == 15
    assert rows == sorted(rows)
    assert torch.equal(y, data.y[rows])
    assert torch.equal(t, data.t[rows])
    assert not torch.equal(drawn(experience, 15, seed=1)[0], x)


@pytest.mark.parametrize("n", [40, 1000])
def test_of_few_samples_all_are_taken(n):
    experience = digits("permuted", train_size=40).train_stream[0]
    data = experience.dataset
    x, y, t = drawn(experience, n)
    assert torch.equal(x, data.x)
    assert torch.equal(y, data.y)
    assert torch.equal(t, data.t)


def test_on_an_online_stream_samples_come_from_the_whole_experience():
    first, *_ = parts(5)
    x, y, _ = drawn(first, 30)
    whole = first.logging().origin_experience.dataset
    assert torch.equal(x, whole.x)
    assert torch.equal(y, whole.y)


def test_samples_are_not_augmented():
    def noisy(x):
        return x + torch.rand_like(x)

    data = digits(train_size=40).train_stream[0].dataset
    augmented = InMemoryDataset(data.x, data.y, data.t, noisy)
    benchmark = with_classes_timeline(benchmark_from_datasets(train=[augmented]))
    experience = benchmark.train_stream[0]
    assert not torch.equal(experience.dataset.fetch(slice(None))[0], data.x)
    assert torch.equal(drawn(experience, 40)[0], data.x)


def test_avalanches_own_data_sets_give_the_same_samples():
    ours = digits(train_size=40)
    theirs = plain_benchmark(ours)
    for mine, other in zip(ours.train_stream, theirs.train_stream, strict=True):
        for one, another in zip(drawn(mine, 9), drawn(other, 9), strict=True):
            assert torch.equal(one, another)
