"""The precision and the memory layout in a cell's `training` section."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier
from avalanche.models.utils import avalanche_forward
from avalanche.training.plugins import AGEMPlugin, GSS_greedyPlugin
from torch import nn
from torch.autograd.graph import Node
from torch.nn.modules.conv import _ConvNd

from avalanche_ext.config import Cell
from avalanche_ext.config.sections import Training
from avalanche_ext.data import Strategy
from avalanche_ext.functional.compiled.terms import first_line
from avalanche_ext.functional.model.precision import (
    bfloat16_is_fast,
    use_bfloat16,
    use_channels_last,
)
from avalanche_ext.functional.model.running import generators_kept

_READ_IN_ORDER = (AGEMPlugin, GSS_greedyPlugin)
"""Plugins of Avalanche that fail where a gradient does not lie in memory in its own order."""

_HEADS = (IncrementalClassifier, MultiHeadClassifier)


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
            use_bfloat16(strategy.model, _classifying(strategy.model, input_shape))
        except ValueError as error:
            raise ValueError(f"training.precision is bf16, but {error}: use fp32") from None


def _classifying(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """Return the layers that classify, which cost little and whose rounding costs accuracy.

    These are the last layers before the model's output, and all of Avalanche's heads, which cannot
    compute in bfloat16 at all if each sample has a task label.
    """
    found = [each for each in model.modules() if isinstance(each, _HEADS)]
    reason = ""
    try:
        names = _last_layers(deepcopy(model).train(), input_shape)
        found += [model.get_submodule(name) for name in names]
    except Exception as error:  # Some models cannot run before they adapt to an experience.
        reason = f" ({first_line(error)})"
    if not found:
        warnings.warn(
            f"training.precision is bf16, and no layer of {type(model).__name__} was found to "
            f"compute its output{reason}, so all of them use bfloat16; the layer that classifies "
            "would use float32",
            stacklevel=2,
        )
    return found


def _last_layers(model: nn.Module, input_shape: Sequence[int]) -> list[str]:
    """Return the names of the layers whose outputs reach the model's through no other layer.

    Operations that are not layers, such as pooling, may follow them. The model is run on zeros.
    """
    layers: dict[Node | None, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, _ConvNd, *_HEADS)):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: layers.update({output.grad_fn: name})
            )
    device = next(model.parameters()).device
    x = torch.zeros(2, *input_shape, device=device, requires_grad=True).clone()
    with generators_kept(device), torch.enable_grad():
        output = avalanche_forward(model, x, torch.zeros(2, dtype=torch.int64, device=device))
    found, seen, nodes = [], set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None:
            continue  # A constant, or a layer that ran without gradients.
        if node in layers:
            found.append(layers[node])
        elif node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    return found


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
