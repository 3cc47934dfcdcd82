"""Reference gradients: those of the criterion on each constraint's samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from avalanche.models import MultiTaskModule, avalanche_forward
from torch import Tensor, nn

from avalanche_ext.data import Strategy, criterion_of
from avalanche_ext.functional.model.gradients import (
    FlatLayout,
    batched_loss_gradients,
    loss_gradients,
)
from avalanche_ext.functional.model.running import is_samplewise
from avalanche_ext.plugins.core.composition import Columns


def references_of(strategy: Strategy, layout: FlatLayout, groups: list[Columns]) -> Tensor:
    """Return the gradients of the criterion on groups of samples, (T, P)."""
    model, criterion = strategy.model, criterion_of(strategy)
    are_alike = len({len(y) for _, y, _ in groups}) == 1
    if strategy.device.type == "cuda" and are_alike and _is_batchable(model, criterion):
        x, y = (torch.stack([group[i] for group in groups]) for i in range(2))
        return batched_loss_gradients(model, criterion, x, y, layout)

    def loss(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        value: Tensor = criterion(avalanche_forward(model, x, t), y)
        return value

    return loss_gradients([partial(loss, *group) for group in groups], layout)


def _is_batchable(model: nn.Module, criterion: Any) -> bool:
    """Tell whether torch.func can run several constraints at once."""
    is_known = isinstance(criterion, nn.CrossEntropyLoss)
    return is_known and is_samplewise(model) and not _has_heads(model)


def _has_heads(model: nn.Module) -> bool:
    """Tell whether the model chooses between heads by the samples' task labels."""
    return any(isinstance(module, MultiTaskModule) for module in model.modules())
