"""What all buffers guarantee, independent of their policy."""

import pickle

import numpy as np
import pytest
import torch
from avalanche.training.storage_policy import ReservoirSamplingBuffer

from avalanche_ext.buffers import (
    ReservoirBuffer,
    RingBuffer,
    TaskBuffer,
    TaskClassBuffer,
    as_slot_buffer,
    balanced,
    uniform,
)
from avalanche_ext.data import InMemoryDataset
from tests.buffers.cases import BUFFERS, fill, held, numbered

GROUPS = [0, 0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 2, 0, 1]

each_buffer = pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)


@each_buffer
def test_add_returns_where_each_sample_is(make):
    buffer = make(4)
    fill(buffer, GROUPS)
    slots = buffer.add(*numbered([1, 2], first=100))
    for number, slot in zip((100.0, 101.0), slots, strict=True):
        if slot >= 0:
            assert buffer.fetch(np.array([slot]))[0].item() == number


@each_buffer
def test_labels_stay_with_their_samples(make):
    buffer = make(5)
    fill(buffer, GROUPS)
    x, y, t = buffer.sample(100)
    assert len(x) == len(buffer)
    for number, label, task in zip(x.flatten(), y, t, strict=True):
        assert GROUPS[int(number)] == label == task


@each_buffer
@pytest.mark.parametrize("by", ["class", "task"])
def test_groups_list_every_slot_oldest_first_whenever_they_are_asked_for(make, by):
    asked_early, asked_late = make(4), make(4)
    asked_early.groups(by)
    for buffer in (asked_early, asked_late):
        fill(buffer, GROUPS)
    for buffer in (asked_early, asked_late):
        for group, slots in buffer.groups(by).items():
            x, y, _ = buffer.fetch(np.array(slots))
            assert set(y.tolist()) == {group}
            assert x.flatten().tolist() == sorted(x.flatten().tolist())
        assert sum(map(len, buffer.groups(by).values())) == len(buffer)
    assert asked_early.groups(by) == asked_late.groups(by)


@each_buffer
def test_sample_is_without_replacement_and_from_the_own_generator(make):
    buffer, twin = make(6), make(6)
    for each in (buffer, twin):
        fill(each, GROUPS)
    before = torch.get_rng_state()
    draws = [buffer.sample(3)[0].flatten().tolist() for _ in range(20)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(len(set(draw)) == 3 for draw in draws)
    assert draws == [twin.sample(3)[0].flatten().tolist() for _ in range(20)]
    assert len({tuple(sorted(draw)) for draw in draws}) > 1


@each_buffer
def test_a_draw_of_all_samples_keeps_their_order_and_the_generator(make):
    buffer = make(6)
    fill(buffer, GROUPS)
    before = buffer.rng.bit_generator.state
    for n in (len(buffer), 100):
        assert buffer.sample_slots(n).tolist() == [*range(len(buffer))]
    assert buffer.rng.bit_generator.state == before


def test_the_task_label_is_the_task_where_no_origin_is_given():
    buffer = ReservoirBuffer(4)
    x, y, _ = numbered([0, 1, 2])
    buffer.add(x, y, torch.tensor([5, 6, 5]))
    assert buffer.groups("task") == {5: [0, 2], 6: [1]}
    assert buffer.notes(np.arange(3)).origin == [5, 6, 5]


@each_buffer
def test_drawing_from_an_empty_buffer_says_so(make):
    with pytest.raises(ValueError, match="is empty"):
        make(4).sample(1)


@each_buffer
def test_replace_changes_samples_and_nothing_else(make):
    buffer = make(5)
    fill(buffer, GROUPS)
    slots = np.array([2, 0])
    before, groups = buffer.fetch(np.arange(len(buffer))), dict(buffer.groups("class"))
    edited = torch.tensor([[50.0], [60.0]], requires_grad=True)
    buffer.replace(slots, edited * 1.0)
    x, y, t = buffer.fetch(np.arange(len(buffer)))
    assert x[2].item() == 50
    assert x[0].item() == 60
    assert torch.equal(x[[1, 3, 4]], before[0][[1, 3, 4]])
    assert torch.equal(y, before[1])
    assert torch.equal(t, before[2])
    assert buffer.groups("class") == groups
    assert not x.requires_grad


def contents(buffer, by):
    """Samples of each group."""
    return {
        group: buffer.fetch(np.array(slots))[0].flatten().tolist()
        for group, slots in buffer.groups(by).items()
    }


@each_buffer
@pytest.mark.parametrize("by", ["class", "task"])
@pytest.mark.parametrize("asked", ["early", "late"])
def test_versions_change_when_and_only_when_a_groups_samples_do(make, by, asked):
    buffer, n_same, n_changed = make(4), 0, 0
    if asked == "late":
        fill(buffer, GROUPS)
    for number, group in enumerate(GROUPS + GROUPS, 100):
        before, versions = contents(buffer, by), dict(buffer.versions(by))
        buffer.add(*numbered([group], first=number))
        for key, samples in contents(buffer, by).items():
            is_same = before.get(key) == samples
            assert (buffer.versions(by)[key] is versions.get(key)) == is_same
            n_same += is_same
            n_changed += not is_same
    assert n_same > 10
    assert n_changed > 2


@each_buffer
def test_versions_change_where_samples_are_replaced(make):
    buffer = make(5)
    fill(buffer, GROUPS)
    before = {by: dict(buffer.versions(by)) for by in ("class", "task")}
    groups = buffer.groups("class")
    group = next(iter(groups))
    buffer.replace(np.array(groups[group][:1]), torch.tensor([[70.0]]))
    for by, versions in before.items():
        assert [g for g in groups if buffer.versions(by)[g] is not versions[g]] == [group]


@each_buffer
@pytest.mark.parametrize(
    "change",
    [
        lambda buffer: buffer.resize(None, buffer.max_size - 3),
        lambda buffer: buffer.load_state_dict(buffer.state_dict()),
        lambda buffer: setattr(buffer, "buffer", buffer.buffer),
    ],
    ids=["resize", "load_state_dict", "the setter"],
)
def test_versions_of_all_change_when_slots_are_reassigned(make, change):
    buffer = make(6)
    fill(buffer, GROUPS)
    before = dict(buffer.versions("class"))
    change(buffer)
    assert len(buffer) > 0
    for group in buffer.groups("class"):
        assert buffer.versions("class")[group] is not before[group]


@each_buffer
def test_what_was_drawn_is_not_changed_by_later_writes(make):
    buffer = make(3)
    fill(buffer, [0, 1, 2])
    x, _, _ = buffer.fetch(np.arange(3))
    dataset = buffer.buffer
    copy, seen = x.clone(), dataset.x.clone()
    buffer.replace(np.arange(3), torch.full((3, 1), 99.0))
    assert torch.equal(x, copy)
    assert torch.equal(dataset.x, seen)
    assert held(buffer) == [99, 99, 99]


@each_buffer
def test_state_dict_makes_a_twin(make, tmp_path):
    buffer, twin = make(5), make(2)
    fill(buffer, GROUPS)
    buffer.groups("class")
    buffer.sample(2)
    torch.save(buffer.state_dict(), tmp_path / "buffer.pt")
    twin.load_state_dict(torch.load(tmp_path / "buffer.pt", weights_only=True))
    for each in (buffer, twin):
        fill(each, GROUPS[::-1])
    assert torch.equal(buffer.buffer.x, twin.buffer.x)
    assert buffer.groups("class") == twin.groups("class")
    assert torch.equal(buffer.sample(3)[0], twin.sample(3)[0])
    for draw in (uniform, lambda groups, n, rng: balanced(groups, n, [1], rng)):
        draws = [draw(b.groups("class"), 7, b.rng).tolist() for b in (buffer, twin)]
        assert draws[0] == draws[1]


def test_state_dict_of_an_empty_buffer():
    twin = ReservoirBuffer(3, seed=1)
    twin.load_state_dict(ReservoirBuffer(5, seed=0).state_dict())
    assert len(twin) == 0
    assert twin.max_size == 5


@each_buffer
def test_pickled_size_is_that_of_what_is_held(make):
    image = torch.zeros(3, 28 * 28)
    labels = torch.tensor([0, 1, 2])
    buffer = make(200)
    buffer.add(image, labels, labels)
    sample_size = 28 * 28 * 4
    sums_size = 3 * 2 * sample_size * (getattr(buffer, "eviction", "") == "old and near")
    assert len(pickle.dumps(buffer)) < 3 * sample_size + sums_size + 20_000
    again = pickle.loads(pickle.dumps(buffer))
    again.add(image, labels, labels)
    assert len(again) == 6


@each_buffer
def test_growing_keeps_everything(make):
    buffer = make(6)
    fill(buffer, GROUPS)
    before = held(buffer)
    buffer.resize(None, buffer.max_size + 6)
    assert held(buffer) == before
    fill(buffer, [0, 1, 2])
    assert len(buffer) == len(before) + 3


@each_buffer
def test_shrinking_keeps_labels_and_indexes_true(make):
    buffer = make(6)
    fill(buffer, GROUPS)
    buffer.groups("class")
    buffer.resize(None, 3)
    assert len(buffer) == buffer.max_size == 3
    for group, slots in buffer.groups("class").items():
        assert all(GROUPS[int(x)] == group for x in buffer.fetch(np.array(slots))[0].flatten())
    fill(buffer, [0, 1, 2, 0])
    assert len(buffer) == 3


def test_a_shrinking_ring_stays_balanced_and_recent():
    buffer = RingBuffer(6)
    fill(buffer, [0, 0, 0, 1, 1, 1])
    buffer.resize(None, 4)
    assert held(buffer) == [1, 2, 4, 5]


def test_a_shrinking_task_buffer_keeps_the_last_of_each_task():
    buffer = TaskBuffer(3)
    fill(buffer, [0, 0, 0, 1, 1, 1])
    buffer.resize(None, 5)
    assert (buffer.size_per_task, buffer.max_size) == (2, 4)
    assert held(buffer) == [1, 2, 4, 5]


def test_a_shrinking_task_class_buffer_keeps_the_last_of_each_class_of_each_task():
    buffer = TaskClassBuffer(3)
    for task in range(2):
        x, y, t = numbered([0, 1, 0, 1, 0, 1], 6 * task)
        buffer.add(x, y, t, task)
    assert held(buffer) == [*range(12)]
    buffer.resize(None, 9)
    assert (buffer.size_per_class, buffer.max_size) == (2, 8)
    assert held(buffer) == [2, 3, 4, 5, 8, 9, 10, 11]


def test_a_shrinking_reservoir_keeps_a_random_part():
    kept = set()
    for seed in range(30):
        buffer = ReservoirBuffer(6, seed)
        fill(buffer, [0] * 6)
        buffer.resize(None, 3)
        kept.add(tuple(held(buffer)))
    assert len(kept) > 5


@each_buffer
def test_the_setter_takes_what_it_is_given(make):
    source, target = make(6), make(6)
    fill(source, GROUPS)
    fill(target, [2, 2])
    target.buffer = source.buffer
    assert held(target) == held(source)


@pytest.mark.parametrize("name", ["ring over tasks", "task", "task and class", "reservoir"])
def test_a_dataset_without_task_labels_is_refused_if_tasks_are_needed(name):
    buffer = BUFFERS[name](6)
    fill(buffer, GROUPS)
    buffer.groups("task")
    before, (x, y, t) = held(buffer), numbered([1, 2], 50)
    with pytest.raises(ValueError, match="all task labels are 0: use add with origin, or update_"):
        buffer.buffer = InMemoryDataset(x, y, 0 * t)
    assert held(buffer) == before
    buffer.buffer = InMemoryDataset(x, y, 0 * t + 3)
    assert buffer.groups("task") == {3: [0, 1]}
    buffer.buffer = InMemoryDataset(x[:0], y[:0], t[:0])
    assert held(buffer) == []


@pytest.mark.parametrize("make", [TaskBuffer, TaskClassBuffer])
def test_the_setter_keeps_the_size_of_each_group(make):
    buffer = make(3)
    fill(buffer, GROUPS)
    buffer.buffer = InMemoryDataset(*numbered([2, 2, 1, 2, 2]))
    assert held(buffer) == [1, 2, 3, 4]
    assert buffer.max_size == 6


def test_a_view_refuses_assignment():
    view = as_slot_buffer(ReservoirSamplingBuffer(2))
    with pytest.raises(TypeError, match="copies what Avalanche's ReservoirSamplingBuffer holds"):
        view.buffer = InMemoryDataset(*numbered([0, 1]))


def test_a_view_holds_all_samples_even_of_a_policy_that_exceeds_its_size():
    policy = ReservoirSamplingBuffer(2)
    policy.buffer = InMemoryDataset(*numbered([0, 1, 1]))
    view = as_slot_buffer(policy)
    assert (held(view), view.max_size) == ([0, 1, 2], 3)


def test_a_view_of_avalanches_buffer_has_no_state_to_tell():
    view = as_slot_buffer(ReservoirSamplingBuffer(5))
    for call in (view.state_dict, lambda: view.load_state_dict({})):
        with pytest.raises(
            TypeError, match="Avalanche's ReservoirSamplingBuffer has no state_dict"
        ):
            call()


def test_more_slots_than_memory_can_hold_are_refused_by_name():
    with pytest.raises(ValueError, match=r"max_size .* is 10{15}, but .* memory cannot hold"):
        ReservoirBuffer(10**15)
