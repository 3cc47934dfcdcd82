"""The gradients of single samples themselves, as the rows of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.functional.per_sample.backward import (
    looped_gradients,
    looped_outputs,
    mapped_gradients,
)
from avalanche_ext.functional.per_sample.chunks import Chunk, Rows, chunks
from avalanche_ext.functional.per_sample.rules import gradients_of_runs
from avalanche_ext.functional.per_sample.sums import warn_of_slow_layers, without_rules


def gradient_matrix(
    model: nn.Module, layout: FlatLayout, x: Tensor, rows: Rows, *, t: Tensor | None = None
) -> Tensor:
    """Return the gradients ∂⟨s_rn, f(x_n)⟩ / ∂θ, (M, P), in the order of the layout.

    Arguments, errors and what stays unchanged are as in `sums.summed_powers`.

    Returns:
        R rows for each of N samples; M = R · N, or a sum of such products if tasks differ in R.
        Samples are grouped by task. Use it for few samples: it holds M · P numbers.
    """
    with left_as_it_was(model, x):
        blocks = [_block(model, layout, chunk) for chunk in chunks(model, layout, x, rows, t, None)]
    return torch.cat(blocks)


def _block(model: nn.Module, layout: FlatLayout, chunk: Chunk) -> Tensor:
    """Return the gradients of a chunk of R rows and n samples, (R · n, P); row r · n + i."""
    n_rows, n_samples = chunk.rows.shape[:2]
    n = n_rows * n_samples
    like = layout.parameters[0].detach()
    block = like.new_zeros(n, sum(layout.numels))
    places = dict(zip(layout.parameters, torch.split(block, layout.numels, dim=1), strict=True))
    for layer in chunk.holding() & chunk.runs.by_layer.keys():
        gradients = gradients_of_runs(layer, chunk.runs.by_layer[layer])
        lifted = gradients.lift(torch.eye(n, dtype=like.dtype, device=like.device))
        for p, of_rows in zip(gradients.parameters, lifted, strict=True):
            places[p].copy_(of_rows.flatten(1))
    rest = without_rules(chunk, layout)
    if not rest:
        return block
    warn_of_slow_layers(model, rest, chunk.rules.is_mapped)
    parameters = [*rest.values()]
    if chunk.rules.is_mapped:
        for r, row in enumerate(chunk.rows):
            found = mapped_gradients(model, rest, chunk.inputs, row)
            for p, of_samples in zip(parameters, found, strict=True):
                places[p][r * n_samples : (r + 1) * n_samples] = of_samples.flatten(1)
        return block
    alone = looped_outputs(model, chunk.inputs)
    for i, gradient in enumerate(looped_gradients(alone, parameters, chunk.rows)):
        sample, r = divmod(i, n_rows)
        for p, of_row in zip(parameters, gradient, strict=True):
            places[p][r * n_samples + sample] = of_row.flatten()
    return block
