"""A check of a model's output for samples, before anything is trained."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from avalanche.models import DynamicModule, MultiTaskModule
from avalanche.training.templates.problem_type import SupervisedProblem
from torch import Tensor, nn

from avalanche_ext.config import Component
from avalanche_ext.data.views import seeded_generators
from avalanche_ext.runner.foreign import ComponentError, parameters
from avalanche_ext.runner.imports import locate

_SIZES = (32, 64, 128, 224)
"""Heights and widths that image models commonly take."""


def wants_logits(strategy: Component) -> bool:
    """Return whether a strategy passes a model's output to a loss of logits and labels.

    A user's strategy may not: it may have its own `forward` or `criterion`.
    """
    if strategy.target.startswith(("avalanche.", "avalanche_ext.")):
        return True
    made = locate(strategy.target)
    methods = ("forward", "criterion")
    return all(getattr(made, m, None) is getattr(SupervisedProblem, m) for m in methods)


def check_output(
    model: nn.Module, sample: Tensor, n_classes: int, component: Component, benchmark: Component
) -> None:
    """Raise ComponentError unless a model returns logits for a benchmark's samples.

    A copy of the model is called in evaluation and in training mode, and all generators are
    restored. So neither buffers nor the run's numbers change. A model that cannot be copied, or
    that chooses among heads by task, is not called.

    Args:
        model: The model.
        sample: One sample of the benchmark.
        n_classes: Number of outputs it needs; a model that grows may start with fewer.
        component: The component that the model was built from.
        benchmark: The component that the benchmark was built from.
    """
    if isinstance(model, MultiTaskModule):
        return
    name, shape = f"model '{component.name}'", tuple(sample.shape)
    try:
        outputs = _outputs(model, sample)
    except _NotCopiedError:
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        advice = _advice(model, sample, benchmark)
        raise ComponentError(
            f"{name} does not take samples of shape {shape}{advice} ({reason})"
        ) from error
    for output in outputs:
        if not isinstance(output, Tensor):
            has_switch = "aux_logits" in parameters(component)
            advice = ": set model.aux_logits: false" if has_switch else ""
            raise ComponentError(
                f"{name} must return one tensor of logits (B, n_classes), but returns "
                f"{type(output).__name__}{advice}"
            )
        if output.dim() != 2 or len(output) != 2:
            raise ComponentError(
                f"{name} must return logits (B, n_classes), but for 2 samples of shape {shape} it "
                f"returns a tensor of shape {tuple(output.shape)}"
            )
        grows = any(isinstance(module, DynamicModule) for module in model.modules())
        if output.shape[1] < n_classes and not grows:
            raise ComponentError(
                f"{name} has {output.shape[1]} outputs, but the benchmark has {n_classes} classes"
            )


class _NotCopiedError(Exception):
    """A model cannot be copied."""


def _outputs(model: nn.Module, sample: Tensor) -> list[Any]:
    """Return the outputs of a model's copy for two samples in evaluation and in training mode."""
    try:
        copy = deepcopy(model)
    except Exception as error:
        raise _NotCopiedError from error
    first = next(copy.parameters(), sample)
    x = torch.stack([sample, sample]).to(first.device)
    outputs = []
    with seeded_generators([0]):
        for is_training in (False, True):
            copy.train(is_training)
            with torch.set_grad_enabled(is_training):
                outputs.append(copy(x))
    return outputs


def _advice(model: nn.Module, sample: Tensor, benchmark: Component) -> str:
    """Return the images that the model takes instead, as keys of the benchmark; may be empty."""
    if sample.dim() != 3 or not {"channels", "image_size"} <= parameters(benchmark):
        return ""
    channels, height, width = sample.shape
    for n_channels in (channels, *({1, 3} - {channels})):
        for size in (None, *(size for size in _SIZES if size > min(height, width))):
            other = torch.zeros(n_channels, size or height, size or width)
            try:
                _outputs(model, other)
            except Exception:
                continue
            changed = {
                "channels": n_channels if n_channels != channels else None,
                "image_size": size,
            }
            keys = [f"benchmark.{key}: {value}" for key, value in changed.items() if value]
            return f": set {' and '.join(keys)}"
    return ""
