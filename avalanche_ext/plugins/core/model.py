"""Calling a strategy's model, and labels and logits of models with several or growing heads."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from avalanche.models import IncrementalClassifier, MultiHeadClassifier
from avalanche.models.utils import is_multi_task_module
from torch import Tensor, nn

from avalanche_ext.data import Strategy, labels_by_head
from avalanche_ext.functional.model.wrapped import plain_name, unwrapped

_MASKING = (IncrementalClassifier, MultiHeadClassifier)


def own_model(strategy: Strategy) -> nn.Module:
    """Return the user's own module, without the wrappers of `torch.compile` or `DataParallel`.

    Use it to look inside the model or to differentiate it in other ways than by a backward pass.
    For a plain forward pass, use `strategy.model`.
    """
    return unwrapped(strategy.model)


def hooked_model(strategy: Strategy) -> nn.Module:
    """Return the user's own module, for hooks that run in the strategy's own passes.

    Raises:
        ValueError: If `DataParallel` runs these passes on copies of the module.
    """
    for module in strategy.model.modules():
        if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            raise ValueError(
                f"DataParallel runs copies of the model on {len(module.device_ids)} devices, but "
                "hidden representations are gathered from one: use the model without DataParallel"
            )
    return own_model(strategy)


def is_multi_head(strategy: Strategy) -> bool:
    """Return whether the model is called with task labels."""
    return bool(is_multi_task_module(own_model(strategy)))


def check_model(model: nn.Module) -> None:
    """Raise ValueError if Avalanche cannot call the model as it is wrapped."""
    own = unwrapped(model)
    if is_multi_task_module(own) and not is_multi_task_module(model):
        raise ValueError(
            f"Avalanche calls a {type(model).__name__} without task labels, which the multi-head "
            f"{type(own).__name__} in it needs: use the model alone, or compile it in place by "
            "model.compile()"
        )


def check_precision(model: nn.Module, name: str) -> None:
    """Raise ValueError if the plugin `name` cannot work in the precision of the model's weights."""
    for parameter, p in unwrapped(model).named_parameters():
        if p.requires_grad and p.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"{name} needs weights in float32 or float64, but {plain_name(parameter)!r} is in "
                f"{str(p.dtype).removeprefix('torch.')}: keep the model in float32, and use "
                "torch.autocast in its forward"
            )


def task_labels(strategy: Strategy) -> Tensor:
    """Return the task labels of the mini-batch, (B,): zeros if the benchmark has none."""
    if len(strategy.mbatch) > 2:
        return strategy.mb_task_id
    y = strategy.mb_y
    return torch.zeros(len(y), dtype=torch.int64, device=y.device)


def model_inputs(strategy: Strategy, x: Tensor, t: Tensor) -> list[Tensor]:
    """Return the arguments of the strategy's model: [x, t] for a multi-head model, else [x]."""
    return [x, t] if is_multi_head(strategy) else [x]


def learning_rates(strategy: Strategy, lr: float | None) -> dict[Tensor, float]:
    """Return the learning rate of each of the optimizer's parameters: `lr`, or its own if None."""
    groups = strategy.optimizer.param_groups
    return {
        p: float(group["lr"]) if lr is None else lr for group in groups for p in group["params"]
    }


def learning_rates_to_come(strategy: Strategy, lr: float | None) -> dict[Tensor, float]:
    """Return the learning rates that the model's parameters will have in the next experience.

    A parameter of `parameters_to_come` has the rate of the one that it replaces. If it replaces
    none, it has the rate of the optimizer's only parameter group; with several groups it has none.
    Parameters that the optimizer leaves out have no rate.
    """
    rates, groups = learning_rates(strategy, lr), strategy.optimizer.param_groups
    for parameter, replaced in parameters_to_come(strategy).items():
        if replaced in rates:
            rates[parameter] = rates[replaced]
        elif replaced is None and len(groups) == 1:
            rates[parameter] = float(groups[0]["lr"]) if lr is None else lr
    return rates


def parameters_to_come(strategy: Strategy) -> dict[Tensor, Tensor | None]:
    """Return the model's parameters that Avalanche has yet to give to the optimizer.

    A head that grows gets new parameters. If it grows in an evaluation, Avalanche gives them to the
    optimizer only when the next experience begins.

    Returns:
        For each of them the parameter of the same name that the optimizer has, None if it has none.
        Empty if the strategy does not leave the optimizer's parameters to Avalanche.
    """
    known: dict[str, Tensor] | None = getattr(strategy, "optimized_param_id", None)
    if known is None:
        return {}
    return {
        p: known.get(name)
        for name, p in strategy.model.named_parameters()
        if known.get(name) is not p
    }


def class_labels(strategy: Strategy, y: Tensor, t: Tensor) -> Tensor:
    """Return labels, (B,), that differ between the classes of different heads.

    Each head of a multi-head model counts its classes from 0. For a model with one head they are
    the labels of the data: equal labels mean the same class in every task.
    """
    return labels_by_head(y, t) if is_multi_head(strategy) else y


def mask_values(model: nn.Module) -> set[float]:
    """Return the numbers that the model's heads output for unused units.

    Avalanche's growing and multi-head classifiers output a large negative number for them.
    """
    return {m.mask_value for m in model.modules() if isinstance(m, _MASKING) and m.masking}


def unmasked(logits: Tensor, masks: Iterable[float]) -> Tensor:
    """Return logits, (B, C), with 0 in place of the values that `mask_values` returns."""
    for mask in masks:
        logits = logits.masked_fill(logits == mask, 0)
    return logits
