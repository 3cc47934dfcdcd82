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
from torch import Tensor, nn
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
    why = f"the layer that computes the output of {type(model).__name__} was not found"
    try:
        layers, weights = _last_layers(deepcopy(model).requires_grad_(True), input_shape)
        if weights:
            why = f"{type(model).__name__} uses {weights[0]!r} outside of a layer for its output"
        else:
            found += [model.get_submodule(name) for name in layers]
    except Exception as error:  # Some models cannot run before they adapt to an experience.
        why += f" ({first_line(error)})"
    if not found:
        warnings.warn(
            f"training.precision is bf16, and {why}, so the logits are rounded to bfloat16; a "
            "layer that classifies, such as nn.Linear or a module with its own weights, would use "
            "float32",
            stacklevel=2,
        )
    return found


def _last_layers(model: nn.Module, input_shape: Sequence[int]) -> tuple[list[str], list[str]]:
    """Return the layers and the matrices whose results reach the model's output through no layer.

    Other operations, such as pooling, may follow a layer. The model is run on zeros.

    Returns:
        The names of the layers, and the names of the parameters.
    """
    layers: dict[Node | None, str] = {}

    def note(name: str, inputs: tuple[object, ...], output: object) -> None:
        takes_floats = inputs and isinstance(inputs[0], Tensor) and inputs[0].is_floating_point()
        if takes_floats and isinstance(output, Tensor):
            layers[output.grad_fn] = name

    for name, module in model.train().named_modules():
        if _is_layer(module):
            module.register_forward_hook(
                lambda _module, inputs, output, name=name: note(name, inputs, output)
            )
    names = {parameter: name for name, parameter in model.named_parameters()}
    device = next(model.parameters()).device
    x = torch.zeros(2, *input_shape, device=device, requires_grad=True).clone()
    with generators_kept(device), torch.enable_grad():
        output = avalanche_forward(model, x, torch.zeros(2, dtype=torch.int64, device=device))
    found, weights, seen, nodes = [], [], set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None:
            continue  # A constant, or a layer that ran without gradients.
        if node in layers:
            found.append(layers[node])
        elif node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
            weight = getattr(node, "variable", None)
            if weight in names and _is_matrix(weight):
                weights.append(names[weight])
    return found, weights


def _is_layer(module: nn.Module) -> bool:
    """Return whether a module multiplies its input by weights of its own."""
    if isinstance(module, (nn.Linear, _ConvNd, *_HEADS)):
        return True
    has_parts = any(True for child in module.children() for _ in child.parameters())
    return not has_parts and any(map(_is_matrix, module.parameters(recurse=False)))


def _is_matrix(weight: Tensor) -> bool:
    """Return whether a parameter has several rows and columns, unlike biases and scales."""
    return sum(size > 1 for size in weight.shape) > 1


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
