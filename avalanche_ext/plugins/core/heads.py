"""What heads that grow, or are one for each task, do to labels and logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from avalanche.models import IncrementalClassifier, MultiHeadClassifier
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

_MASKING = (IncrementalClassifier, MultiHeadClassifier)


def class_labels(strategy: Any, y: Tensor, t: Tensor) -> Tensor:
    """Return labels, (B,), that tell classes of different heads apart, though heads count from 0.

    Of a model with one head they are those of the data: there, equal labels are one class whatever
    the task.
    """
    if not is_multi_task_module(strategy.model):
        return y
    # A pairing function: no number of classes is needed, which may grow.
    return (y + t) * (y + t + 1) // 2 + t


def mask_values(model: nn.Module) -> set[float]:
    """Return what the model's heads put out for units that are not in use.

    Avalanche's heads that grow, or are one for each task, put out a large negative number there.
    """
    return {m.mask_value for m in model.modules() if isinstance(m, _MASKING) and m.masking}


def unmasked(logits: Tensor, masks: Iterable[float]) -> Tensor:
    """Return logits, (B, C), with 0 in place of what `mask_values` returns."""
    for mask in masks:
        logits = logits.masked_fill(logits == mask, 0)
    return logits
