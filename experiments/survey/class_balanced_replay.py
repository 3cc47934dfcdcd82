"""Avalanche's replay with a memory that is balanced over classes."""

from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer


class ClassBalancedReplay(ReplayPlugin):
    """`ReplayPlugin` with a `ClassBalancedBuffer`, which needs no boundaries between tasks.

    Args:
        mem_size: Number of stored samples.
    """

    def __init__(self, mem_size: int) -> None:
        super().__init__(mem_size, storage_policy=ClassBalancedBuffer(mem_size))
