"""Which samples each policy holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_ext.buffers import ReservoirBuffer, RingBuffer, TaskBuffer, TaskClassBuffer
from tests.buffers.cases import fill, held, numbered
from tests.oracles import (
    gem_ring_by_loops,
    last_of_each_group,
    leaving_by_distance,
    leaving_old_and_near,
    ring_by_lists,
)

GROUPS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(GROUPS, st.integers(4, 12), st.integers(1, 7))
def test_ring_holds_what_algorithm_1_holds(groups, max_size, batch_size):
    buffer = RingBuffer(max_size)
    fill(buffer, groups, batch_size)
    assert held(buffer) == ring_by_lists(groups, max_size)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3)), max_size=40),
    st.integers(4, 12),
    st.booleans(),
)
def test_ring_may_give_up_what_is_farthest_from_or_nearest_to_the_mean(samples, max_size, farthest):
    buffer = RingBuffer(max_size, eviction="farthest" if farthest else "nearest")
    kept = []
    for number, (value, group) in enumerate(samples):
        value += number / 100  # No two are equal.
        x, y = torch.tensor([[value]], dtype=torch.float64), torch.tensor([group])
        buffer.add(x, y, y)
        after = buffer.buffer.x.flatten().tolist()
        if len(kept) == max_size:
            (left,) = {v for v, _ in kept} - {*after}
            assert left in leaving_by_distance(kept, group, farthest)
            kept = [pair for pair in kept if pair[0] != left]
        kept.append((value, group))
        assert sorted(after) == sorted(v for v, _ in kept)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60),
    st.integers(2, 30),
    st.integers(0, 60),
)
def test_ring_may_give_up_what_is_old_and_near_the_mean_of_all(samples, max_size, restored_at):
    buffer = RingBuffer(max_size, eviction="old and near")
    kept, arrived = [], []
    for number, (side, group) in enumerate(samples):
        if number == restored_at:
            state, buffer = buffer.state_dict(), RingBuffer(1, eviction="old and near")
            buffer.load_state_dict(state)
        arrived.append((100 * side + number**2 / 1000, group))  # No two distances are equal.
        x = torch.tensor([[arrived[-1][0]]], dtype=torch.float64)
        buffer.add(x, torch.tensor([group]), torch.tensor([group]))
        if len(kept) == max_size:
            leaving = leaving_old_and_near(kept, arrived)
            kept = [pair for pair in kept if pair[0] != leaving]
        kept.append(arrived[-1])
        assert sorted(buffer.buffer.x.flatten().tolist()) == sorted(v for v, _ in kept)


@pytest.mark.parametrize("eviction", ["farthest", "nearest", "old and near"])
def test_a_batch_leaves_what_its_samples_leave_one_after_another(eviction):
    x = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    together, alone = RingBuffer(9, eviction=eviction), RingBuffer(9, eviction=eviction)
    slots = together.add(x, labels, labels, labels)
    one_by_one = [alone.add(*(c[i : i + 1] for c in (x, labels, labels))) for i in range(60)]
    assert slots.tolist() == [int(slot[0]) for slot in one_by_one]
    assert torch.equal(together.buffer.x, alone.buffer.x)


def test_random_eviction_gives_up_each_sample_of_the_largest_group_about_as_often():
    left = np.zeros(4)
    for seed in range(400):
        buffer = RingBuffer(5, seed=seed, eviction="random")
        fill(buffer, [0, 0, 0, 0, 1, 0])
        assert {4, 5} <= {*held(buffer)}
        left[[number not in held(buffer) for number in range(4)]] += 1
    assert left.sum() == 400
    # Four standard deviations of a binomial count, √(400 · ¼ · ¾) ≈ 8.7.
    assert abs(left - 100).max() < 35


def test_ring_counts_the_arriving_sample_before_one_leaves():
    buffer = RingBuffer(4)
    fill(buffer, [0, 0, 1, 1, 1])
    assert held(buffer) == [0, 1, 3, 4]


def test_ring_takes_the_first_arrived_of_tied_groups():
    buffer = RingBuffer(4)
    fill(buffer, [1, 0, 0, 1, 2])
    assert held(buffer) == [1, 2, 3, 4]


def test_ring_over_tasks_is_balanced_by_origin_not_by_class():
    buffer = RingBuffer(4, "task")
    x, _, _ = numbered([0] * 8)
    y, t = torch.arange(8) % 2, torch.zeros(8, dtype=torch.int64)
    buffer.add(x[:6], y[:6], t[:6], origin=0)
    buffer.add(x[6:], y[6:], t[6:], origin=1)
    assert {task: len(slots) for task, slots in buffer.groups("task").items()} == {0: 2, 1: 2}
    assert held(buffer) == [4, 5, 6, 7]


def test_ring_with_fewer_slots_than_groups_says_so():
    buffer = RingBuffer(2)
    fill(buffer, [0, 1])
    message = r"max_size 2 cannot hold one sample of each of 3 groups \(class\): increase max_size"
    with pytest.raises(ValueError, match=message):
        buffer.add(*numbered([1, 2]))
    assert buffer.groups("class") == {0: [0], 1: [1]}


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(1, 6), st.integers(1, 7))
def test_task_buffer_holds_the_last_of_each_task(groups, size_per_task, batch_size):
    buffer = TaskBuffer(size_per_task)
    fill(buffer, groups, batch_size)
    assert held(buffer) == last_of_each_group(groups, size_per_task)
    assert buffer.max_size == size_per_task * len(set(groups))


@settings(max_examples=100, deadline=None)
@given(GROUPS, st.integers(1, 4), st.integers(1, 7), st.integers(1, 20))
def test_task_class_buffer_holds_the_last_of_each_class_of_each_task(
    classes, size_per_class, batch_size, task_size
):
    buffer = TaskClassBuffer(size_per_class)
    x, y, t = numbered(classes)
    tasks = torch.arange(len(classes)) // task_size
    parts = (torch.split(column, batch_size) for column in (x, y, t, tasks))
    for batch in zip(*parts, strict=True):
        buffer.add(*batch)
    groups = (100 * tasks + y).tolist()
    assert held(buffer) == last_of_each_group(groups, size_per_class)
    assert buffer.max_size == size_per_class * len(set(groups))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3), st.integers(4, 9), st.integers(1, 5), st.integers(1, 17))
def test_task_buffer_holds_what_gems_rings_hold_or_as_many(n_tasks, n_batches, batch_size, size):
    size = min(size, n_batches * batch_size)
    buffer = TaskBuffer(size)
    fill(buffer, np.repeat(range(n_tasks), n_batches * batch_size).tolist(), batch_size)
    rings = gem_ring_by_loops(n_tasks, n_batches, batch_size, size)
    if size % batch_size == 0:
        assert held(buffer) == rings
    batches_of = [{arrival // batch_size for arrival in memory} for memory in (held(buffer), rings)]
    assert batches_of[0] == batches_of[1]
    assert len(buffer) == len(rings)


def test_reservoir_holds_everything_until_it_is_full():
    buffer = ReservoirBuffer(10)
    fill(buffer, [0] * 10, batch_size=4)
    assert held(buffer) == [*range(10)]


@pytest.mark.parametrize(("n_seen", "size", "batch_size"), [(30, 10, 1), (30, 10, 7), (2, 1, 1)])
def test_reservoir_holds_every_sample_equally_likely(n_seen, size, batch_size):
    n_runs = 2000
    counts = np.zeros(n_seen)
    for seed in range(n_runs):
        buffer = ReservoirBuffer(size, seed)
        fill(buffer, [0] * n_seen, batch_size)
        counts[held(buffer)] += 1
    expected = n_runs * size / n_seen
    # Binomial standard deviation 22 at most; more than 4 of them for 30 counts at once.
    assert np.abs(counts - expected).max() < 95
    assert counts.sum() == n_runs * size


def test_reservoir_of_one_slot_and_a_batch_larger_than_it():
    buffer = ReservoirBuffer(1)
    buffer.add(*numbered([0] * 20))
    assert len(buffer) == 1
    assert buffer.n_seen == 20


@pytest.mark.parametrize("make", [ReservoirBuffer, RingBuffer, TaskBuffer, TaskClassBuffer])
def test_sizes_below_one_are_refused(make):
    with pytest.raises(ValueError, match="is 0, but must be greater than 0"):
        make(0)
