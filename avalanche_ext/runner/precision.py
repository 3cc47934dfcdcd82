"""The precision and the memory layout in a cell's `training` section."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier
from avalanche.training.plugins import AGEMPlugin, GSS_greedyPlugin
from torch import nn

from avalanche_ext.config import Cell
from avalanche_ext.config.sections import Training
from avalanche_ext.data import Strategy
from avalanche_ext.functional.model.precision import (
    bfloat16_is_fast,
    use_bfloat16,
    use_channels_last,
)
from avalanche_ext.models.features import last_layer

_READ_IN_ORDER = (AGEMPlugin, GSS_greedyPlugin)
"""Plugins of Avalanche that fail where a gradient does not lie in memory in its own order."""


def set_precision(strategy: Strategy, training: Training, input_shape: Sequence[int]) -> None:
    """Let the model of a strategy compute as a cell asks.

    Raises:
        ValueError: If it cannot, with the key that asks.
    """
    if training.channels_last:
        for plugin in strategy.plugins:
            if isinstance(plugin, _READ_IN_ORDER):
                raise ValueError(
                    f"training.channels_last is true, but Avalanche's {type(plugin).__name__} "
                    "cannot read gradients of such weights: leave it out, or use 'agem' or 'gss'"
                )
        try:
            use_channels_last(strategy.model)
        except ValueError as error:
            raise ValueError(f"training.channels_last is true, but {error}: leave it out") from None
    if precision_here(training) == "bf16":
        try:
            use_bfloat16(strategy.model, _heads(strategy.model, input_shape))
        except ValueError as error:
            raise ValueError(f"training.precision is bf16, but {error}: use fp32") from None


def _heads(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """Return the layers that classify, which cost little and whose rounding costs accuracy.

    Avalanche's own heads cannot compute in bfloat16 at all if each sample has a task label. A model
    that ends in another layer has no such layers.
    """
    kinds = (IncrementalClassifier, MultiHeadClassifier)
    heads: list[nn.Module] = [each for each in model.modules() if isinstance(each, kinds)]
    if not heads:
        with suppress(ValueError, TypeError):  # It does not end in one, or takes more than samples.
            heads = [last_layer(model, input_shape)[1]]
    return [head for head in heads if head is not model]


def precision_here(training: Training) -> str:
    """Return the precision that a cell has on this machine: fp32 where bf16 would be slower.

    Wherever it is not fp32 that was asked for, results and checkpoints say which it was.
    """
    is_fast = training.precision == "fp32" or bfloat16_is_fast(torch.device(training.device))
    return training.precision if is_fast else "fp32"


def say_where_slow(cells: Iterable[Cell]) -> None:
    """Say on stderr that bf16 is slow here, if a cell asks for it."""
    asked = [cell.training for cell in cells if cell.training.precision != "fp32"]
    slow = sorted({each.device for each in asked if precision_here(each) == "fp32"})
    if slow:
        print(
            f"training.precision: bf16 is slow on {', '.join(slow)} of this machine, so runs there "
            "use fp32; result.json says which each run used",
            file=sys.stderr,
        )
