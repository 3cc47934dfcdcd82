"""Sums of outer products of layers' inputs, and of the gradients at their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.functional.model.tape import is_trained
from avalanche_ext.functional.per_sample.chunks import Chunk, Rows, chunks
from avalanche_ext.functional.per_sample.formed import slices
from avalanche_ext.functional.per_sample.layers import Positions
from avalanche_ext.functional.per_sample.rules import (
    Positional,
    by_position,
    is_positional,
    layers_with_rules,
)
from avalanche_ext.functional.per_sample.sums import add_powers

Sharing = Literal["expand", "reduce"]
"""How the positions of a sample in a layer are counted; see `LayerSums`."""


@dataclass
class LayerSums:
    """Sums over samples for one layer, with inputs a and gradients e at its outputs.

    A layer that sees L positions of each sample, such as a convolution, or runs several times, has
    a_nl and e_rnl. "expand" treats each position as a sample; "reduce" uses the mean of a and the
    sum of e over positions as the sample's. For L = 1 they are the same.

    Attributes:
        inputs: Σ_n (1/L) Σ_l a_nl a_nlᵀ, or Σ_n ā_n ā_nᵀ, (I, I). Inputs end with a 1 if the bias
            is trained, and consist of only that 1 if the weight is not.
        outputs: Σ_r Σ_n Σ_l e_rnl e_rnlᵀ, or Σ_r Σ_n ê_rn ê_rnᵀ, (O, O).
        n_samples: Number of samples that ran through the layer.
    """

    inputs: Tensor
    outputs: Tensor
    n_samples: int = 0

    @classmethod
    def of(cls, layer: Positional) -> LayerSums:
        """Return zeros for a layer with trained parameters."""
        weight = layer.weight
        n_inputs = weight[0].numel() * is_trained(weight) + is_trained(layer.bias)
        return cls(weight.new_zeros(n_inputs, n_inputs), weight.new_zeros(2 * weight.shape[:1]))


def summed_factors(
    model: nn.Module,
    layout: FlatLayout,
    x: Tensor,
    rows: Rows,
    *,
    t: Tensor | None = None,
    sharing: Sharing = "expand",
    chunk_size: int | None = None,
) -> tuple[dict[nn.Module, LayerSums], Tensor]:
    """Return the sums of linear layers and convolutions, and those of squares for the others.

    Arguments, errors and what stays unchanged are as in `summed_powers`. Layers without a rule,
    layers that share parameters and grouped convolutions count as others.

    Args:
        model: f.
        layout: All its trained parameters.
        x: Samples, (N, ...).
        rows: Returns s; nothing is divided by N or R.
        t: Task labels, (N,).
        sharing: "expand" or "reduce", see `LayerSums`.
        chunk_size: Number of samples per call; None: as many as fit into memory.

    Returns:
        The sums of each layer, and Σ_n Σ_r (∂⟨s_rn, f(x_n)⟩ / ∂θ)², (P,), which is zero for the
        parameters of these layers.
    """
    layers: Sequence[Positional] = [
        layer for layer in layers_with_rules(model, layout) if _has_factors(layer)
    ]
    with left_as_it_was(model, x):
        while True:
            sums: dict[nn.Module, LayerSums] = {layer: LayerSums.of(layer) for layer in layers}
            total = torch.cat([p.detach().new_zeros(p.numel()) for p in layout.parameters])
            by_parameter = dict(zip(layout.parameters, layout.pieces(total), strict=True))
            lost: set[nn.Module] = set()
            for chunk in chunks(model, layout, x, rows, t, chunk_size):
                lost = sums.keys() - chunk.holding()
                if lost:
                    break
                _add(sums, chunk, sharing)
                add_powers(by_parameter, model, layout, chunk, 2, apart=sums.keys())
                del chunk  # Frees it before the next one is made.
            if not lost:
                return sums, total
            # These layers treat some samples differently, so all squares are needed.
            layers = [layer for layer in layers if layer not in lost]


def _has_factors(layer: nn.Module) -> TypeGuard[Positional]:
    return is_positional(layer) and getattr(layer, "groups", 1) == 1


def _add(sums: Mapping[nn.Module, LayerSums], chunk: Chunk, sharing: Sharing) -> None:
    for layer, runs in chunk.runs.by_layer.items():
        if layer not in sums or not is_positional(layer):
            continue
        own, of_runs = sums[layer], [by_position(layer, *run) for run in runs]
        if chunk.part.start == 0:
            own.n_samples += len(chunk.place)
            _add_inputs(own.inputs, of_runs, sharing)
        e = torch.cat([run.output_gradients for run in of_runs], -1)
        e = e.sum(-1, keepdim=True) if sharing == "reduce" else e
        by_unit = e.movedim(2, 0).flatten(1)
        own.outputs.addmm_(by_unit, by_unit.T)


def _add_inputs(total: Tensor, runs: Sequence[Positions], sharing: Sharing) -> None:
    first = runs[0]
    n_positions = sum(run.output_gradients.shape[-1] for run in runs)
    n_ones = int(first.has_bias)
    for samples in slices(first.n_samples, n_positions * max(1, len(total))):
        n = samples.stop - samples.start
        a = total.new_empty(n, n_positions, 0)
        if first.has_weight:
            a = torch.cat([run.columns(samples)[:, 0] for run in runs], 1)
        if sharing == "reduce":
            a = a.mean(1, keepdim=True) if n_positions else a.sum(1, keepdim=True)
        a = nn.functional.pad(a, (0, n_ones), value=1.0).flatten(0, 1)
        total.addmm_(a.T, a, alpha=n / max(1, len(a)))
