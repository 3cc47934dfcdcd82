"""Samples of constraints are fetched again only where they have changed."""

import numpy as np
import torch
from avalanche.training.storage_policy import ReservoirSamplingBuffer

from avalanche_ext.benchmarks import split_digits
from avalanche_ext.buffers import PolicyBuffer, ReservoirBuffer, RingBuffer, TaskBuffer
from avalanche_ext.plugins.projection.constraints import Constraints
from tests.buffers.cases import fill, numbered
from tests.plugins.projection.constraint_cases import CPU, Watched, members, numbers, task_buffer


def test_nothing_is_fetched_while_nothing_changes():
    watched = Watched(task_buffer(3, 3, 3))
    assert watched.fetched() == []
    watched.buffer.sample(4)
    watched.buffer.groups("class")
    assert watched.fetched() == []


def test_nothing_is_fetched_while_the_current_task_is_stored():
    watched = Watched(task_buffer(3, 3), origin=2)
    for _ in range(4):
        watched.buffer.add(*numbered([2, 2]))
        assert watched.fetched() == []


def test_a_task_with_new_samples_is_fetched():
    watched = Watched(task_buffer(3, 3, 3))
    watched.buffer.add(*numbered([1], first=50))
    assert watched.fetched() == [1]
    watched.buffer.add(*numbered([5], first=60))
    assert watched.fetched() == [3]


def test_all_constraints_of_a_task_with_new_samples_are_fetched():
    watched = Watched(task_buffer(3, 3, 3, 3), n_groups=2)
    assert len(watched.last) == 8
    watched.buffer.add(*numbered([1], first=50))
    assert watched.fetched() == [2, 3]


def test_a_task_whose_samples_were_replaced_is_fetched():
    watched = Watched(task_buffer(3, 3, 3))
    slots = np.array(watched.buffer.groups("task")[2][:2])
    watched.buffer.replace(slots, torch.full((2, 1), 70.0))
    assert watched.fetched() == [2]
    assert numbers(watched.last[2][0]) == [70, 70, 8]


def test_tasks_that_a_reservoir_evicts_from_are_fetched():
    buffer = ReservoirBuffer(12, seed=3)
    fill(buffer, [0] * 4 + [1] * 4 + [2] * 4)
    watched, n_evicted, n_kept = Watched(buffer, origin=3), 0, 0
    for n in range(40):
        before = {task: [*slots] for task, slots in buffer.groups("task").items() if task != 3}
        buffer.add(*numbered([3], first=100 + n))
        after = buffer.groups("task")
        evicted = [task for task in before if after.get(task) != before[task]]
        left = [task for task in after if task != 3]
        assert [left[i] for i in watched.fetched()] == [t for t in evicted if t in after]
        n_evicted += len(evicted)
        n_kept += not evicted
    assert n_evicted > 5
    assert n_kept > 5


def test_classes_that_a_ring_evicts_from_are_fetched():
    buffer = RingBuffer(6)
    fill(buffer, [0, 0, 0, 1, 1, 1])
    watched = Watched(buffer, "class")
    buffer.add(*numbered([2], first=20))
    assert watched.fetched() in ([0, 2], [1, 2])


def test_a_task_that_is_gone_sets_no_constraint():
    buffer = ReservoirBuffer(1, seed=0)
    buffer.add(*numbered([0]))
    watched, first = Watched(buffer, origin=9), 0
    while 0 in buffer.groups("task"):
        first += 1
        buffer.add(*numbered([first], first))
    assert watched.fetched() == [0]
    assert watched.last[0][2].tolist() == [first]


def test_everything_is_fetched_after_a_resize():
    watched = Watched(task_buffer(4, 4, 4))
    watched.buffer.resize(None, 6)
    assert watched.fetched() == [0, 1, 2]
    assert members(watched.last) == [[2, 3], [6, 7], [10, 11]]


def test_everything_is_fetched_after_a_state_was_loaded():
    watched, other = Watched(task_buffer(3, 3)), TaskBuffer(3)
    other.add(*numbered([0, 0, 0, 1, 1, 1], first=40))
    watched.buffer.load_state_dict(other.state_dict())
    assert watched.fetched() == [0, 1]
    assert numbers(watched.last[0][0]) == [40, 41, 42]


def test_everything_is_fetched_after_the_samples_were_set_again():
    watched = Watched(task_buffer(3, 3))
    watched.buffer.buffer = task_buffer(2, 2).buffer
    assert watched.fetched() == [0, 1]


def test_everything_is_fetched_when_another_task_begins():
    watched = Watched(task_buffer(3, 3, 3), origin=2)
    watched.origin = 1
    assert watched.fetched() == [0, 1]
    assert members(watched.last) == [[0, 1, 2], [6, 7, 8]]
    watched.origin = 2
    assert members(watched.ask()) == [[0, 1, 2], [3, 4, 5]]


def test_what_one_of_avalanches_holds_is_fetched_after_an_experience():
    benchmark = split_digits(n_experiences=5, train_size=20, scenario="task")
    buffer = PolicyBuffer(ReservoirSamplingBuffer(30))
    for experience in benchmark.train_stream[:2]:
        buffer.post_adapt(None, experience)
    constraints = Constraints(buffer, "task", 1)
    first = constraints.samples(2, CPU)
    assert constraints.samples(2, CPU)[0][0] is first[0][0]
    buffer.post_adapt(None, benchmark.train_stream[2])
    again = constraints.samples(2, CPU)
    held = [t for t in buffer.groups("task") if t != 2]
    assert [t.unique().tolist() for _, _, t in again] == [[t] for t in held]
    assert again[0][0] is not first[0][0]
