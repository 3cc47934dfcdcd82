"""Notes that buffers keep about their samples."""

import numpy as np
import pytest

from tests.buffers.cases import BUFFERS, fill

GROUPS = [0, 0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 2, 0, 1]

each_buffer = pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)


def replace(buffer, slots):
    buffer.replace(slots, buffer.fetch(slots)[0])


@each_buffer
def test_replacements_are_counted_until_a_slot_is_given_away(make):
    buffer = make(4)
    fill(buffer, GROUPS)
    slots = np.arange(len(buffer))
    replace(buffer, slots)
    replace(buffer, slots[1:2])
    before = dict(zip(buffer.notes(slots).arrival, buffer.notes(slots).n_replaced, strict=True))
    assert sorted(before.values()) == [1] * (len(slots) - 1) + [2]
    fill(buffer, GROUPS * 3)
    notes = buffer.notes(np.arange(len(buffer)))
    assert notes.n_replaced == [before.get(arrival, 0) for arrival in notes.arrival]
    assert 0 in notes.n_replaced


@each_buffer
def test_state_dict_and_resize_keep_them(make):
    buffer, twin = make(5), make(2)
    fill(buffer, GROUPS)
    replace(buffer, np.array([1, 2]))
    twin.load_state_dict(buffer.state_dict())
    slots = np.arange(len(buffer))
    notes = buffer.notes(slots)
    assert twin.notes(slots) == notes
    assert notes.n_replaced[1:3] == [1, 1]
    by_arrival = dict(zip(notes.arrival, notes.n_replaced, strict=True))
    buffer.resize(None, 3)
    left = buffer.notes(np.arange(len(buffer)))
    assert left.n_replaced == [by_arrival[arrival] for arrival in left.arrival]
