"""Memories for replay: which samples are stored, evicted and drawn."""

from avalanche_ext.buffers.base import SlotBuffer
from avalanche_ext.buffers.draws import balanced, half_current, uniform
from avalanche_ext.buffers.greedy import GreedyBuffer
from avalanche_ext.buffers.policies import (
    Eviction,
    ReservoirBuffer,
    RingBuffer,
    TaskBuffer,
    TaskClassBuffer,
)
from avalanche_ext.buffers.slots import GroupBy, GroupIndex, SlotNotes, Slots
from avalanche_ext.buffers.view import PolicyBuffer, as_slot_buffer

__all__ = [
    "Eviction",
    "GreedyBuffer",
    "GroupBy",
    "GroupIndex",
    "PolicyBuffer",
    "ReservoirBuffer",
    "RingBuffer",
    "SlotBuffer",
    "SlotNotes",
    "Slots",
    "TaskBuffer",
    "TaskClassBuffer",
    "as_slot_buffer",
    "balanced",
    "half_current",
    "uniform",
]
