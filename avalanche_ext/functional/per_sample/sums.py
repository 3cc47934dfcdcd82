"""Sums and inner products of the gradients of single samples, without forming them.

What a layer's parameters have of each sample follows from what the layer saw and from the gradients
at what it put out, which one forward and one backward pass give for all samples (Goodfellow 2015,
"Efficient per-example gradient computations", arXiv:1510.01799). Layers without such a rule are
done one sample at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.functional.per_sample.chunks import MEMORY, Chunk, Rows, chunks
from avalanche_ext.functional.per_sample.fallback import (
    looped_gradients,
    looped_outputs,
    mapped_gradients,
)
from avalanche_ext.functional.per_sample.outer import powers
from avalanche_ext.functional.per_sample.rules import SampleGradients, gradients_of_runs

__all__ = ["Rows", "layerwise_gradients", "summed_powers"]

_said: set[tuple[type[nn.Module], type[nn.Module], str]] = set()
"""The types of models and layers, and names of parameters, that were said to have no rule."""


def summed_powers(
    model: nn.Module,
    layout: FlatLayout,
    x: Tensor,
    rows: Rows,
    *,
    t: Tensor | None = None,
    power: int = 2,
    chunk_size: int | None = None,
) -> Tensor:
    """Return Σ_n Σ_r |∂⟨s_rn, f(x_n)⟩ / ∂θ|^power, (P,), in the order of the layout.

    The model runs in eval mode, and is left as it was, with its buffers and gradients; nor do the
    global generators change. The sum is the same for all sizes of chunks, to rounding.

    Args:
        model: f, called with samples, and with their task labels where there are any; returns
            outputs (n, C).
        layout: All trained parameters θ of the model.
        x: Samples, (N, ...).
        rows: Returns s; nothing is divided by N or R here.
        t: Task labels, (N,); samples of different tasks are never in one call.
        power: 1 or 2.
        chunk_size: How many samples are in one call; None: as many as memory has room for.

    Raises:
        ValueError: If there are no samples, sizes differ, or the model's outputs are not (n, C).
    """
    _check(chunk_size)
    with left_as_it_was(model, x):
        total = torch.cat([p.detach().new_zeros(p.numel()) for p in layout.parameters])
        sums = dict(zip(layout.parameters, layout.pieces(total), strict=True))
        for chunk in chunks(model, layout, x, rows, t, chunk_size):
            _add_by_rules(sums, chunk, power)
            rest = _without_rules(chunk, layout)
            if rest:
                _say(model, rest, chunk.rules.is_mapped)
                _add_without_rules(sums, model, rest, chunk, power)
            del chunk  # Or the next would be made beside it.
    return total


def layerwise_gradients(
    model: nn.Module,
    layout: FlatLayout,
    x: Tensor,
    rows: Rows,
    *,
    t: Tensor | None = None,
    chunk_size: int | None = None,
) -> list[SampleGradients] | None:
    """Return the gradients ∂⟨s_rn, f(x_n)⟩ / ∂θ as one object for each layer, for all N samples.

    Arguments, errors and what is left as it was are those of `summed_powers`. What the layers saw
    of all samples is held, but no gradients; layers that none of them ran through are left out.

    Returns:
        None if some parameter has no rule, or R differs between tasks.
    """
    _check(chunk_size)
    seen: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}
    n_rows = 0
    with left_as_it_was(model, x):
        for chunk in chunks(model, layout, x, rows, t, chunk_size):
            n_rows = n_rows or chunk.n_rows
            if chunk.n_rows != n_rows or _without_rules(chunk, layout):
                return None
            _gather(seen, chunk, len(x))
            del chunk
        by_layer: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
        for (layer, _), run in seen.items():
            by_layer.setdefault(layer, []).append(run)
        return [gradients_of_runs(layer, runs) for layer, runs in by_layer.items()]


def _check(chunk_size: int | None) -> None:
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size={chunk_size}: must be at least 1, or None")


def _add_by_rules(sums: Mapping[nn.Parameter, Tensor], chunk: Chunk, power: int) -> None:
    by_layer = chunk.runs.by_layer
    for layer in chunk.holding() & by_layer.keys():
        gradients = gradients_of_runs(layer, by_layer[layer])
        found = gradients.summed_powers(power)
        for p, value in zip(gradients.parameters, found, strict=True):
            sums[p] += value


def _gather(
    seen: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]], chunk: Chunk, n_samples: int
) -> None:
    for layer, runs in chunk.runs.by_layer.items():
        for i, (inputs, e) in enumerate(runs):
            if (layer, i) not in seen:
                # Samples that do not run through the layer keep their zeros.
                of_rows = e.new_zeros(chunk.n_rows, n_samples, *e.shape[2:])
                seen[layer, i] = inputs.new_zeros(n_samples, *inputs.shape[1:]), of_rows
            of_all, e_of_all = seen[layer, i]
            of_all[chunk.place] = inputs
            e_of_all[chunk.part, chunk.place] = e


def _without_rules(chunk: Chunk, layout: FlatLayout) -> dict[str, nn.Parameter]:
    held = {p for layer in chunk.holding() for p in layer.parameters(recurse=False)}
    pairs = zip(layout.names, layout.parameters, strict=True)
    return {name: p for name, p in pairs if p not in held}


def _add_without_rules(
    sums: Mapping[nn.Parameter, Tensor],
    model: nn.Module,
    rest: Mapping[str, nn.Parameter],
    chunk: Chunk,
    power: int,
) -> None:
    parameters = [*rest.values()]
    if not chunk.rules.is_mapped:
        alone = looped_outputs(model, chunk.inputs)
        for gradients in looped_gradients(alone, parameters, chunk.rows):
            for p, g in zip(parameters, gradients, strict=True):
                sums[p] += powers(g, power)
        return
    of_sample = sum(p.numel() for p in parameters) + chunk.rules.n_kept
    at_a_time = max(1, MEMORY // (of_sample * parameters[0].element_size()))
    for start in range(0, len(chunk.place), at_a_time):
        samples = slice(start, start + at_a_time)
        inputs = [part[samples] for part in chunk.inputs]
        for row in chunk.rows:
            gradients = mapped_gradients(model, rest, inputs, row[samples])
            for p, g in zip(parameters, gradients, strict=True):
                sums[p] += powers(g, power).sum(0)


def _say(model: nn.Module, rest: Mapping[str, nn.Parameter], is_mapped: bool) -> None:
    modules = dict(model.named_modules())
    keys = {name: (type(model), type(modules[name.rpartition(".")[0]]), name) for name in rest}
    new = [name for name, key in keys.items() if key not in _said]
    if not new:
        return
    _said.update(keys.values())
    owners = dict.fromkeys(name.rpartition(".")[0] for name in new)
    layers = ", ".join(f"{o or 'the model itself'} ({type(modules[o]).__name__})" for o in owners)
    way = "torch.func.vmap" if is_mapped else "a loop over samples, since vmap fails on them"
    warnings.warn(
        f"no exact rule holds for the gradients by sample of {layers}: they are had by {way}, "
        "which is slower",
        stacklevel=3,
    )
