"""What can go wrong with a whole experiment is found before any training starts."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path

from avalanche_ext.config import Cell


class PreflightError(Exception):
    """An experiment cannot be run here; the message names the key or argument in the way."""


def check_output(out: Path) -> None:
    """Raise PreflightError unless files can be written below `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise PreflightError(
            f"--out {out}: cannot write there ({error.strerror}); name a folder you can write to"
        ) from error


def check_devices(cells: Sequence[Cell]) -> None:
    """Raise PreflightError if a GPU is asked for and there is none, or not that one."""
    asked = {cell.training.device for cell in cells} - {"cpu"}
    for device in sorted(asked):
        # Torch takes seconds to import; without a driver there is no need to ask it.
        n_devices = _n_cuda_devices() if _has_cuda_driver() else 0
        index = int(device.partition(":")[2] or 0)
        if index >= n_devices:
            raise PreflightError(
                f"training.device: {device!r} asked for, but this machine has {n_devices} usable "
                "CUDA devices; 'cpu' works everywhere"
            )


def check_builds(cells: Sequence[Cell], data_root: Path | None) -> None:
    """Build the first cell of each method, so that wrong arguments and missing data show now."""
    from avalanche_ext.runner.components import build

    seen = set()
    for cell in cells:
        if cell.method_name not in seen:
            seen.add(cell.method_name)
            try:
                build(cell, data_root)
            except (ValueError, TypeError, LookupError, OSError, RuntimeError) as error:
                message = " ".join(str(error).split())
                raise PreflightError(f"methods.{cell.method_name}: {message}") from error


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _n_cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()
