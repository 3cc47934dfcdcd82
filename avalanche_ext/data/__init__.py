"""Data sets held in memory as tensors, and loaders that take whole batches from them."""

from avalanche_ext.data.dataset import Batch, InMemoryDataset, fetch_all
from avalanche_ext.data.experiences import (
    Strategy,
    by_origin,
    criterion_of,
    has_new_stream,
    origin_experience,
    origin_index,
    take_back_stop,
)
from avalanche_ext.data.labels import labels_by_head
from avalanche_ext.data.loaders import (
    InMemoryLoaders,
    RepeatedBatches,
    TensorLoader,
    begins_batch,
    ends_batch,
)
from avalanche_ext.data.materialise import in_memory, materialise

__all__ = [
    "Batch",
    "InMemoryDataset",
    "InMemoryLoaders",
    "RepeatedBatches",
    "Strategy",
    "TensorLoader",
    "begins_batch",
    "by_origin",
    "criterion_of",
    "ends_batch",
    "fetch_all",
    "has_new_stream",
    "in_memory",
    "labels_by_head",
    "materialise",
    "origin_experience",
    "origin_index",
    "take_back_stop",
]
