"""Representations of samples that are not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from avalanche.models.utils import is_multi_task_module
from torch import Tensor

from avalanche_ext.data import Strategy
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.plugins.core.gathering import LOGITS, Gatherer, gathered_layers
from avalanche_ext.plugins.core.model import mask_values, unmasked


def hidden_representations(
    strategy: Strategy, x: Tensor, t: Tensor, layers: Sequence[str] | None = None
) -> list[Tensor]:
    """Return what the model makes of samples, in evaluation mode; it is left as it was.

    Args:
        strategy: Whose model runs, on mini-batches of its evaluation's size.
        x: Samples, (N, ...), where the model is.
        t: Task labels, (N,).
        layers: Modules whose outputs are used, and "logits"; None is as for
            `RepresentationLossPlugin` what enters each linear layer and depends on trained
            parameters, and the logits.

    Returns:
        Of each layer (N, H_l), without a graph; the logits are the last.

    Raises:
        ValueError: If the model lacks one of the layers.
    """
    model, size = strategy.model, strategy.eval_mb_size
    hooked, gatherer = gathered_layers(model, layers), Gatherer()
    batches: list[list[Tensor]] = []
    with left_as_it_was(model, x):
        for x_part, t_part in zip(torch.split(x, size), torch.split(t, size), strict=True):
            gatherer.start(hooked, "inputs" if layers is None else "outputs")
            try:
                logits = model(x_part, t_part) if is_multi_task_module(model) else model(x_part)
            finally:
                gatherer.stop()
            found = gatherer.taken(t_part)
            if layers is None:
                found = [rows for rows in found if rows.requires_grad]
            if layers is None or LOGITS in layers:
                found.append(unmasked(logits, mask_values(model)))
            batches.append([rows.detach() for rows in found])
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]
