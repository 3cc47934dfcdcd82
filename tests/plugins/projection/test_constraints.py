"""Which samples form which constraint of a gradient projection."""

import pytest
import torch

from avalanche_ext.buffers import RingBuffer, TaskBuffer
from tests.buffers.cases import fill, numbered
from tests.plugins.projection.constraint_cases import constraints, members, numbers, task_buffer


class TestDealing:
    @pytest.mark.parametrize("n_groups", [1, 2, 3, 4, 7, 20])
    def test_every_sample_is_dealt_once_and_sizes_differ_by_one_at_most(self, n_groups):
        buffer = task_buffer(7, 5, 4)
        groups = members(constraints(buffer, origin=1, n_groups=n_groups))
        first, last = min(n_groups, 7), min(n_groups, 4)
        assert len(groups) == first + last
        for dealt, samples in (
            (groups[:first], range(7)),
            (groups[first:], range(12, 16)),
        ):
            assert sorted(n for group in dealt for n in group) == [*samples]
            assert max(map(len, dealt)) - min(map(len, dealt)) <= 1

    def test_labels_and_task_labels_go_with_their_samples(self):
        buffer = TaskBuffer(6)
        x = torch.arange(12.0).unsqueeze(1)
        buffer.add(x, torch.arange(12) % 5, torch.arange(12) % 3, torch.arange(12) // 6)
        for x, y, t in constraints(buffer, origin=9, n_groups=4):
            assert y.tolist() == [n % 5 for n in numbers(x)]
            assert t.tolist() == [n % 3 for n in numbers(x)]

    def test_dealt_in_turn_oldest_first(self):
        buffer = TaskBuffer(4)
        fill(buffer, [0] * 6)
        assert members(constraints(buffer, 1, n_groups=2)) == [[2, 4], [3, 5]]


class TestTheCurrentTask:
    def test_an_empty_memory_or_one_of_the_current_task_alone_sets_no_constraint(self):
        for group_by in ("task", "class"):
            assert constraints(TaskBuffer(5), 0, group_by=group_by) == []
            assert constraints(task_buffer(4), 0, group_by=group_by) == []

    @pytest.mark.parametrize("current", [0, 1, 2])
    def test_it_is_left_out_wherever_it_stands(self, current):
        found = members(constraints(task_buffer(2, 2, 2), current))
        assert found == [[2 * t, 2 * t + 1] for t in range(3) if t != current]

    def test_of_a_class_its_samples_are_left_out(self):
        buffer = RingBuffer(20)
        classes, origins = torch.tensor([3, 7, 3, 3, 7, 8]), torch.tensor([0, 0, 0, 1, 1, 1])
        buffer.add(torch.arange(6.0).unsqueeze(1), classes, torch.zeros(6).long(), origins)
        by_class = {
            origin: members(constraints(buffer, origin, group_by="class")) for origin in (0, 1, 2)
        }
        assert by_class == {
            0: [[3], [4], [5]],
            1: [[0, 2], [1]],
            2: [[0, 2, 3], [1, 4], [5]],
        }

    def test_tasks_are_experiences_not_task_labels(self):
        buffer = TaskBuffer(3)
        x, y, t = numbered([0] * 6)
        buffer.add(x, y, t, torch.tensor([0, 0, 0, 1, 1, 1]))
        assert members(constraints(buffer, 1)) == [[0, 1, 2]]
