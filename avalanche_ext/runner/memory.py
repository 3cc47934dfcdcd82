"""The memory that a run takes, and the memory that its method keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from avalanche.training.plugins.clock import Clock
from avalanche.training.supervised import Naive
from avalanche.training.templates.base_sgd import PeriodicEval
from torch import Tensor

from avalanche_ext.data import Strategy
from avalanche_ext.plugins import MethodPlugin
from avalanche_ext.runner.imports import is_users
from avalanche_ext.state import NotStorableError, encoded

_PROCESS = Path("/proc/self")


def begin_peak(device: torch.device) -> None:
    """Make `peak` count from now on, if the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def peak(device: torch.device) -> int | None:
    """Return the peak memory in bytes.

    Args:
        device: On a GPU, the memory of tensors there counts; otherwise the memory of the whole
            process.

    Returns:
        Bytes since `begin_peak`, or since the process started if the system cannot reset the count;
        None if it cannot count.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return _peak_of_process()
    sizes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(sizes[0]) if sizes else _peak_of_process()


def _peak_of_process() -> int | None:
    try:
        import resource
    except ImportError:  # Windows.
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size


def kept(strategy: Strategy) -> int | None:
    """Return the bytes of the tensors that plugins keep for the next experience.

    These are stored samples, statistics and copies of weights, not the model itself.

    Returns:
        The bytes; None if other packages' plugins, or the strategy, may keep data that cannot be
        counted.
    """
    if not (_is_ours(strategy) or type(strategy) is Naive):
        return None
    keeping = []
    for plugin in strategy.plugins:
        if isinstance(plugin, MethodPlugin):
            keeping.append(plugin)
        elif not (_is_ours(plugin) or isinstance(plugin, (Clock, PeriodicEval))):
            return None
    packages = {type(plugin).__module__.partition(".")[0] for plugin in keeping}
    storages: dict[int, int] = {}
    try:
        # All together, because plugins may share a memory.
        _add_storages(encoded(keeping, packages=packages), storages)
    except NotStorableError:
        return None
    return sum(storages.values())


def _is_ours(thing: object) -> bool:
    kind = type(thing)
    return kind.__module__.partition(".")[0] == "avalanche_ext" and not is_users(kind)


def _add_storages(state: Any, storages: dict[int, int]) -> None:
    """Add the size of every tensor's memory by its place, so that shared memory counts once."""
    if isinstance(state, Tensor):
        storage = state.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    elif isinstance(state, dict):
        _add_storages([*state.values()], storages)
    elif isinstance(state, list | tuple):
        for each in state:
            _add_storages(each, storages)
