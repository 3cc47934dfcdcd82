"""The exact rules: which layers have one, and the per-sample gradients by rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.tape import LinearGradients
from avalanche_ext.functional.per_sample.formed import FormedGradients, Repeated
from avalanche_ext.functional.per_sample.layers import Convolution, Lookup, Positions, Scaling

_LINEAR = (nn.Linear, NonDynamicallyQuantizableLinear)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_NORMS = (
    *_BATCH_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm,
    nn.GroupNorm, nn.RMSNorm,
)  # fmt: skip


Positional = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""Layers whose weight acts in the same way at each position of a sample."""


class SampleGradients(Protocol):
    """The gradients of the trained parameters of one layer, one for each of M rows.

    There are R rows for each of N samples, M = R · N; row r of sample n is at r·N + n. Nothing is
    divided by N or R.

    Attributes:
        parameters: The layer's trained parameters.
    """

    parameters: list[nn.Parameter]

    def summed_powers(self, power: int) -> list[Tensor]:
        """Return Σ_m |g_m|^power of each parameter, in its shape; the power is 1 or 2."""

    def kernel(self) -> Tensor:
        """Return the inner products of the rows, (M, M), summed over the parameters."""

    def lift(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_m w_km g_m, (k, *shape), of each parameter for weights (k, M)."""


def has_rule(layer: nn.Module) -> bool:
    """Return whether `sample_gradients` has a rule for a layer that owns parameters.

    It knows torch's own linear layers, convolutions, embeddings and normalisation layers, but not
    subclasses, which may behave differently. It does not know layers that change their weight or
    statistics as they run (parametrised weights, embeddings with `max_norm`), or that mix samples
    (batch normalisation without running statistics).
    """
    own = layer._parameters
    if own.get("weight") is None or not own.keys() <= {"weight", "bias"}:
        return False
    if type(layer) is nn.Embedding:
        return layer.max_norm is None and not layer.scale_grad_by_freq
    if isinstance(layer, _BatchNorm) and layer.running_mean is None:
        return False
    return type(layer) in (*_LINEAR, *_CONVOLUTIONS, *_NORMS)


def layers_with_rules(model: nn.Module, layout: FlatLayout) -> list[nn.Module]:
    """Return the layers that own trained parameters, share none, and have rules."""
    owned = [(m, id(p)) for m in model.modules() for p in m.parameters(recurse=False)]
    n_owners = Counter(key for _, key in owned)
    trained = {id(p) for p in layout.parameters}
    owners = dict.fromkeys(module for module, key in owned if key in trained)
    shared = {module for module, key in owned if n_owners[key] > 1}
    return [module for module in owners if module not in shared and has_rule(module)]


def sample_gradients(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> SampleGradients:
    """Return the gradients of a layer's trained parameters for each sample.

    Args:
        layer: A layer with a rule, which treats samples independently; in eval mode.
        inputs: The layer's inputs, (N, ...).
        output_gradients: The gradients at its outputs, (R, N, ...), R for each sample.
    """
    if type(layer) in _LINEAR and inputs.dim() == 2:
        return LinearGradients(cast(nn.Linear, layer), inputs, output_gradients)
    return _formed(layer, inputs, output_gradients)


def gradients_of_runs(layer: nn.Module, runs: Sequence[tuple[Tensor, Tensor]]) -> SampleGradients:
    """Return the same for a layer that runs several times, given inputs and output gradients."""
    if len(runs) == 1:
        return sample_gradients(layer, *runs[0])
    if isinstance(layer, nn.Embedding):
        tokens = torch.cat([x.reshape(len(x), -1) for x, _ in runs], 1)
        e = torch.cat([e.reshape(*e.shape[:2], -1, e.shape[-1]) for _, e in runs], 2)
        return sample_gradients(layer, tokens, e)
    return Repeated([_formed(layer, x, e) for x, e in runs])


def is_positional(layer: nn.Module) -> TypeGuard[Positional]:
    """Return whether `by_position` supports a layer that has a rule."""
    return isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def by_position(layer: Positional, inputs: Tensor, output_gradients: Tensor) -> Positions:
    """Return the gradients of a linear layer or convolution, with their L positions apart.

    Arguments are those of `sample_gradients`; a linear layer with inputs (N, F) has L = 1.
    """
    if not isinstance(layer, nn.Linear):
        return Convolution(layer, inputs, output_gradients)
    n_units = output_gradients.shape[-1]
    e = output_gradients.reshape(*output_gradients.shape[:2], -1, n_units)
    return Positions(layer, inputs.reshape(len(inputs), -1, inputs.shape[-1]), e.mT)


def _formed(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> FormedGradients:
    if is_positional(layer):
        return by_position(layer, inputs, output_gradients)
    if isinstance(layer, nn.Embedding):
        return Lookup(layer, inputs, output_gradients)
    return Scaling(layer, inputs, output_gradients)
