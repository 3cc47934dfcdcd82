"""How plugins call a strategy's model by themselves, and at which rates it learns."""

from __future__ import annotations

from typing import Any

from avalanche.models.utils import is_multi_task_module
from torch import Tensor


def model_inputs(strategy: Any, x: Tensor, t: Tensor) -> list[Tensor]:
    """Return what the strategy's model is called with: task labels only if it has heads."""
    return [x, t] if is_multi_task_module(strategy.model) else [x]


def learning_rates(strategy: Any, lr: float | None) -> dict[Tensor, float]:
    """Return `lr`, or where it is None the optimizer's rate of the moment, of each parameter."""
    return {
        parameter: float(group["lr"]) if lr is None else lr
        for group in strategy.optimizer.param_groups
        for parameter in group["params"]
    }
