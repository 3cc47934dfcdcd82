"""Parameters of a loss, trained by the strategy's optimizer beside those of the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn


def join_optimizer(strategy: Any, parameters: Iterable[nn.Parameter], lr: float | None) -> None:
    """Have the strategy's optimizer train these parameters, from now on and each but once.

    It is to be called at the start of each experience, when the strategy has made the optimizer fit
    the model. Avalanche leaves in the optimizer what is not the model's, along with its state, when
    the model grows; it is put back where a strategy makes its optimizer anew, or is told to remove
    what is not the model's.

    They join the optimizer's first group, so that they have its settings and learning rate of the
    moment, and that a schedule goes on to find the groups it knows. With a learning rate of their
    own, which no schedule changes, they make a group, with the optimizer's other defaults.

    Args:
        strategy: Avalanche's; parameters are moved to its device.
        parameters: Those of the loss.
        lr: Their own learning rate; None is the optimizer's.

    Raises:
        ValueError: If they shall have a learning rate of their own, and the optimizer's follow a
            schedule.
    """
    groups = strategy.optimizer.param_groups
    known = {id(p) for group in groups for p in group["params"]}
    joining = [p for p in parameters if id(p) not in known]
    for p in joining:
        p.data = p.data.to(strategy.device)
    if not joining:
        return
    if lr is None:
        groups[0]["params"].extend(joining)
    elif "initial_lr" in groups[0]:
        raise ValueError(
            f"lr={lr}: the optimizer's learning rates follow a schedule, which takes in no further "
            "group of parameters; give None, which is the optimizer's own"
        )
    else:
        strategy.optimizer.add_param_group({"params": joining, "lr": lr})
