"""Which layers have rules for the gradients of their parameters by sample, and those rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from avalanche_ext.functional.per_sample.blocks import Explicit, Repeated
from avalanche_ext.functional.per_sample.layers import Convolution, Lookup, Positions, Scaling
from avalanche_ext.functional.per_sample.outer import Outer, SampleGradients

__all__ = ["SampleGradients", "gradients_of_runs", "has_rule", "sample_gradients"]

_LINEAR = (nn.Linear, NonDynamicallyQuantizableLinear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (
    *_BATCH_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm,
    nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip


def has_rule(layer: nn.Module) -> bool:
    """Tell whether `sample_gradients` knows a layer with parameters of its own.

    It knows linear layers, convolutions, embeddings and normalisation of torch's own types, since a
    subclass may do otherwise; not what changes its weight or its statistics as it runs
    (parametrised weights, embeddings with `max_norm`), nor what mixes samples (batch normalisation
    without running statistics).
    """
    own = layer._parameters
    if own.get("weight") is None or not own.keys() <= {"weight", "bias"}:
        return False
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and not layer.scale_grad_by_freq
    if isinstance(layer, _BatchNorm) and layer.running_mean is None:
        return False
    return type(layer) in (*_LINEAR, *_CONVOLUTIONS, *_NORMS)


def sample_gradients(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> SampleGradients:
    """Return the gradients of a layer's trained parameters for each sample.

    Args:
        layer: A layer with a rule, which treats samples independently; in eval mode.
        inputs: What it was called with, (N, ...).
        output_gradients: The gradients at what it put out, (R, N, ...), R for each sample.
    """
    if type(layer) in _LINEAR and inputs.dim() == 2:
        return Outer(cast(nn.Linear, layer), inputs, output_gradients)
    return _explicit(layer, inputs, output_gradients)


def gradients_of_runs(layer: nn.Module, runs: Sequence[tuple[Tensor, Tensor]]) -> SampleGradients:
    """Return the same for a layer that runs several times, for its inputs and output gradients."""
    if len(runs) == 1:
        return sample_gradients(layer, *runs[0])
    if isinstance(layer, nn.Embedding):
        tokens = torch.cat([x.reshape(len(x), -1) for x, _ in runs], 1)
        e = torch.cat([e.reshape(*e.shape[:2], -1, e.shape[-1]) for _, e in runs], 2)
        return sample_gradients(layer, tokens, e)
    return Repeated([_explicit(layer, x, e) for x, e in runs])


def _explicit(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> Explicit:
    if isinstance(layer, nn.Linear):
        by_position = output_gradients.reshape(
            *output_gradients.shape[:2], -1, output_gradients.shape[-1]
        )
        x = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        return Positions(layer, x, by_position.mT)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return Convolution(layer, inputs, output_gradients)
    if isinstance(layer, nn.Embedding):
        return Lookup(layer, inputs, output_gradients)
    return Scaling(layer, inputs, output_gradients)
