"""Layers whose per-sample gradients must be formed, and how a block of them is formed."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from avalanche_ext.functional.model.running import evaluating
from avalanche_ext.functional.model.tape import is_trained, powers, trained
from avalanche_ext.functional.per_sample.formed import HELD, FormedGradients


class Positions(FormedGradients):
    """The gradients of a linear layer that sees L positions of each sample.

    Args:
        layer: With a weight (H, ...) of G groups of outputs, and perhaps a bias (H,).
        inputs: (N, ..., F), or any input of `columns`.
        output_gradients: e, (R, N, H, L).
        groups: G.
    """

    def __init__(
        self,
        layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d,
        inputs: Tensor,
        output_gradients: Tensor,
        groups: int = 1,
    ) -> None:
        self.has_weight, self.has_bias = is_trained(layer.weight), is_trained(layer.bias)
        self.parameters = trained(layer)
        self.inputs, self.output_gradients, self.groups = inputs, output_gradients, groups
        self.n_rows, self.n_samples, self.n_units, n_positions = output_gradients.shape
        n_inputs = layer.weight[0].numel()
        self.unit_size = n_inputs + 1
        self.granularity = self.n_units // groups if groups > 1 else 1
        self.workspace = groups * n_inputs * n_positions
        self._columns: Tensor | None = None

    def held(self) -> Positions:
        """Return the same with the columns of all samples, if these are small."""
        if self.workspace * self.n_samples > HELD:
            return self
        other = copy(self)
        other._columns = self.columns(slice(None))
        return other

    def columns(self, samples: slice) -> Tensor:
        """Return the factors of the weight at each position, (n, G, L, F)."""
        return self.inputs[samples].flatten(1, -2)[:, None]

    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return Σ_l e_nl a_nlᵀ, and Σ_l e_nl for the bias."""
        e = self.output_gradients[:, samples, units]
        return [
            *([self._of_weight(e, samples, units)] if self.has_weight else []),
            *([e.sum(-1, keepdim=True)] if self.has_bias else []),
        ]

    def _of_weight(self, e: Tensor, samples: slice, units: slice) -> Tensor:
        per_group = self.n_units // self.groups
        groups = slice(units.start // per_group, -(-units.stop // per_group))
        n_rows, n_samples, n_units, n_positions = e.shape
        by_group = e.reshape(n_rows, n_samples, groups.stop - groups.start, -1, n_positions)
        # A sample's rows share its inputs, so they form one matrix.
        columns = self.columns(samples) if self._columns is None else self._columns[samples]
        g = by_group.movedim(0, 2).flatten(2, 3) @ columns[:, groups]
        by_row = g.reshape(*g.shape[:2], n_rows, -1, g.shape[-1]).movedim(2, 0)
        return by_row.reshape(n_rows, n_samples, n_units, -1)


class Convolution(Positions):
    """The gradients of a convolution of one, two or three dimensions.

    Args:
        layer: A convolution, not a transposed one.
        inputs: (N, C, ...).
        output_gradients: (R, N, H, ...).
    """

    def __init__(
        self, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, inputs: Tensor, output_gradients: Tensor
    ) -> None:
        super().__init__(layer, inputs, output_gradients.flatten(3), layer.groups)
        self.layer = layer

    def columns(self, samples: slice) -> Tensor:
        """Return the inputs under the kernel at each position, (n, G, L, C / G · |kernel|)."""
        layer = self.layer
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = nn.functional.pad(self.inputs[samples], layer._reversed_padding_repeated_twice, mode)
        n_dims = len(layer.kernel_size)
        for dim, size in enumerate(layer.kernel_size):
            reach = layer.dilation[dim] * (size - 1) + 1
            x = x.unfold(2 + dim, reach, layer.stride[dim])[..., :: layer.dilation[dim]]
        n_positions = x.shape[2 : 2 + n_dims].numel()
        kernel_first = x.movedim(tuple(range(2, 2 + n_dims)), tuple(range(-n_dims, 0)))
        return kernel_first.reshape(len(x), self.groups, -1, n_positions).mT


class Scaling(FormedGradients):
    """The gradients of the scales and shifts of a layer that normalises.

    Args:
        layer: With a weight and perhaps a bias; batch normalisation in eval mode.
        inputs: (N, ...).
        output_gradients: (R, N, ...).
    """

    def __init__(self, layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> None:
        own = dict(layer.named_parameters(recurse=False))
        neutral = {"weight": torch.ones_like, "bias": torch.zeros_like}
        with evaluating(layer), torch.no_grad():
            plain = {name: neutral[name](p) for name, p in own.items()}
            normalised: Tensor = functional_call(layer, plain, (inputs,))
        self.has_weight, self.has_bias = (is_trained(own.get(name)) for name in neutral)
        self.parameters = trained(layer)
        is_by_feature = isinstance(layer, nn.LayerNorm | nn.RMSNorm)
        n_features = len(own["weight"].shape) if is_by_feature else 0
        self.normalised = _units_first(normalised[None], n_features)
        self.output_gradients = _units_first(output_gradients, n_features)
        self.n_rows, self.n_samples, self.n_units, n_positions = self.output_gradients.shape
        self.unit_size = 2
        self.workspace = self.n_rows * self.n_units * n_positions

    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return Σ_l e_nl x̂_nl, x̂ being the outputs with scales of 1, and Σ_l e_nl."""
        e = self.output_gradients[:, samples, units]
        return [
            *([(e * self.normalised[:, samples, units]).sum(-1)[..., None]] * self.has_weight),
            *([e.sum(-1, keepdim=True)] * self.has_bias),
        ]


class Lookup(FormedGradients):
    """The gradients of an embedding; rows that are not looked up have none.

    Args:
        layer: With a weight (V, D).
        inputs: Indices, (N, ...).
        output_gradients: (R, N, ..., D).
    """

    has_all_units = False

    def __init__(self, layer: nn.Embedding, inputs: Tensor, output_gradients: Tensor) -> None:
        self.parameters = trained(layer)
        self.n_rows, self.n_samples, *_, self.size = output_gradients.shape
        tokens = inputs.reshape(self.n_samples, -1)
        used, places = torch.unique(tokens, return_inverse=True)
        self.used, self.places, self.n_units = used, places, len(used)
        e = output_gradients.reshape(self.n_rows, *places.shape, self.size)
        self.output_gradients = e
        if layer.padding_idx is not None:
            self.output_gradients = e * (used != layer.padding_idx)[places][..., None]
        self.unit_size = self.size
        self.workspace = places.shape[1] * self.size * self.n_rows

    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return Σ_l e_nl over the positions l at which a unit is looked up."""
        n_units = units.stop - units.start
        places = self.places[samples] - units.start
        numbers = torch.arange(len(places), device=places.device)[:, None]
        is_in = (places >= 0) & (places < n_units)
        slots = (numbers * n_units + places)[is_in]
        e = self.output_gradients[:, samples][:, is_in]
        g = e.new_zeros(self.n_rows, len(places) * n_units, self.size)
        return [g.index_add_(1, slots, e).view(self.n_rows, len(places), n_units, self.size)]

    def shaped(self, gradients: Tensor, parameter: Tensor) -> Tensor:
        """Return the gradients in the rows looked up, and zeros in the others."""
        full = gradients.new_zeros(*gradients.shape[:-2], *parameter.shape)
        return full.index_copy_(-2, self.used, gradients)

    def summed_powers(self, power: int) -> list[Tensor]:
        """Return Σ_m |g_m|^power, computed only over the rows that each sample looks up."""
        numbers = torch.arange(self.n_samples, device=self.places.device)[:, None]
        pairs, slots = torch.unique(numbers * self.n_units + self.places, return_inverse=True)
        g = self.output_gradients.new_zeros(self.n_rows, len(pairs), self.size)
        g.index_add_(1, slots.flatten(), self.output_gradients.flatten(1, 2))
        total = g.new_zeros(self.n_units, self.size)
        total.index_add_(0, pairs % self.n_units, powers(g, power).sum(0))
        return [self.shaped(total, p) for p in self.parameters]


def _units_first(x: Tensor, n_features: int) -> Tensor:
    """Return (R, N, ...) as (R, N, units, L).

    The units are the last n_features dimensions, or otherwise the third.
    """
    if n_features:
        x = x.flatten(-n_features)
        return x.reshape(*x.shape[:2], -1, x.shape[-1]).mT
    return x.reshape(*x.shape[:3], -1)
