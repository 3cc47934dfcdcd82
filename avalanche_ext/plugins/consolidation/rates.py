"""The effective learning rates of an optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from avalanche_ext.plugins.core.growth import leading_part


def effective_rates(
    optimizer: Optimizer, *, with_momentum: bool = True
) -> dict[Tensor, float | Tensor]:
    """Return each parameter's effective rate η, how far a gradient of 1 moves it.

    For SGD, η is the group's learning rate, a number. Optimizers that divide by a running size of
    the gradient have a rate for each entry, in the shape of the parameter:

    - Adam, AdamW, NAdam: lr / (√v̂ + ε), with v̂ = v / (1 − β₂ᵗ), where amsgrad has the maximum of v;
      RAdam counts as Adam, without its rectification;
    - Adamax: lr / u;
    - RMSprop: lr / (√v + ε), with v less the squared mean gradient if centered;
    - Adagrad: lr / ((1 + (t − 1) lr_decay) (√s + ε)).

    The momentum μ of SGD and RMSprop repeats a gradient in later steps. Together these steps move
    the parameter 1/(1 − μ) times as far as one, with SGD's dampening d (1 − d)/(1 − μ) times. The
    averages of Adam and its relatives move it no further than η.

    Optimizers are recognised by the names in their state and settings, so others with the same
    names are treated alike. All other optimizers have the group's learning rate; so have parameters
    that have not been stepped yet, up to the factor for momentum.

    Args:
        optimizer: The optimizer, after its step.
        with_momentum: Whether η covers the later steps; if not, it is that of one step.
    """
    rates: dict[Tensor, float | Tensor] = {}
    for group in optimizer.param_groups:
        lr = float(group["lr"]) * (_gain(group) if with_momentum else 1.0)
        rates |= {p: _rate(optimizer.state.get(p, {}), group, lr) for p in group["params"]}
    return rates


def grown_rate(rate: float | Tensor, parameter: Tensor) -> float | Tensor:
    """Return the rate of a parameter that has grown: 0 for its new entries, which have none yet.

    Args:
        rate: A number, or rates in the shape of the parameter before.
        parameter: The parameter now.
    """
    if not isinstance(rate, Tensor) or rate.shape == parameter.shape:
        return rate
    grown = torch.zeros_like(parameter)
    part = leading_part(rate.shape, parameter.shape)
    if part is not None:
        grown[part] = rate
    return grown


def _rate(state: dict[str, Any], group: dict[str, Any], lr: float) -> float | Tensor:
    size: Tensor
    if "exp_avg_sq" in state and "betas" in group:
        square = state.get("max_exp_avg_sq", state["exp_avg_sq"])
        size = (square / (1 - group["betas"][1] ** float(state["step"]))).sqrt_()
    elif "exp_inf" in state:
        size = state["exp_inf"]
        return lr / size
    elif "square_avg" in state and "acc_delta" not in state:
        square, mean = state["square_avg"], state.get("grad_avg")
        size = square.sqrt() if mean is None else square.addcmul(mean, mean, value=-1).sqrt_()
    elif "sum" in state and "lr_decay" in group:
        lr /= 1 + (float(state["step"]) - 1) * group["lr_decay"]
        size = state["sum"].sqrt()
    else:
        return lr
    return lr / size.add_(group["eps"])


def _gain(group: dict[str, Any]) -> float:
    """Return how far a gradient moves a weight in all steps, divided by how far in one."""
    momentum = float(group.get("momentum", 0.0))
    # Muon has a momentum too, but it is that of an average.
    if not 0 < momentum < 1 or not {"dampening", "alpha"} & group.keys():
        return 1.0
    return (1 - float(group.get("dampening", 0.0))) / (1 - momentum)
