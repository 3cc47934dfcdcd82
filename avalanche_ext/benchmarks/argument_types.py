"""Types of arguments that name a data set or transforms, in an experiment file or a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DatasetName = Any
"""A built-in name, a class or function that creates a data set, or a pair of data sets."""

ArgumentsOfDataset = Mapping[str, Any] | None
"""Keyword arguments of a data set's constructor."""

DatasetNames = Sequence[Any]
"""Several data sets, each a `DatasetName` or a mapping with `name`, `args`, `train` and `test`."""

Transforms = Sequence[Any] | None
"""Functions of one image, float (C, H, W) in [0, 1], in order; in a file, their names."""
