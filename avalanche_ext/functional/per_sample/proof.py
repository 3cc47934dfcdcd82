"""Checks on a model's first samples which layers' rules hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.tape import trained
from avalanche_ext.functional.per_sample.backward import (
    LayerRuns,
    SamplePass,
    looped_gradients,
    looped_outputs,
    mapped_gradients,
)
from avalanche_ext.functional.per_sample.rules import gradients_of_runs, layers_with_rules

T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """How to compute per-sample gradients of a model for samples of one task.

    Attributes:
        layers: Layers whose rules were found to hold.
        idle: Those of them that did not run, and whose parameters had no effect.
        at_once: Whether several rows can be backpropagated in one pass.
        is_mapped: Whether vmap can compute the gradients of parameters without a rule.
        is_independent: Whether a sample's output is the same alone and in a batch.
        n_kept: Numbers that a pass keeps for each sample.
        n_put_out: Numbers that the layers with rules output for each sample.
    """

    layers: frozenset[nn.Module]
    idle: frozenset[nn.Module]
    at_once: bool
    is_mapped: bool
    is_independent: bool
    n_kept: int
    n_put_out: int

    def holding(self, runs: LayerRuns) -> set[nn.Module]:
        """Return the layers whose rules hold in a pass with these runs."""
        return {*self.layers} - runs.odd - (self.idle & runs.by_layer.keys())


def proved_rules(
    model: nn.Module, layout: FlatLayout, inputs: Sequence[Tensor], n_rows: int
) -> Rules:
    """Compare the rules of a model's layers with plain gradients, one sample after another.

    Gradients at the outputs are random, since those of a well-fitted sample would prove nothing.

    Args:
        model: In eval mode.
        layout: Its trained parameters.
        inputs: The model's arguments for one or two samples of one task.
        n_rows: R, the number of rows that will be propagated back for each sample.
    """
    kept = _Kept(model)
    candidates = layers_with_rules(model, layout)
    with saved_tensors_hooks(kept.count, _same):
        together = SamplePass(model, candidates, inputs)
    outputs = together.outputs.detach()
    row = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    alone = [*looped_outputs(model, inputs)]
    precisions = {outputs.dtype, *(run.precision for run in together.taken)}
    epsilon = max(torch.finfo(dtype).eps for dtype in precisions)
    is_independent = _agree(outputs, torch.cat(alone).detach(), 0.0, epsilon)

    loop = looped_gradients(alone, layout.parameters, row[None])
    expected = {
        p: torch.stack(gradients)
        for p, gradients in zip(layout.parameters, zip(*loop, strict=True), strict=True)
    }
    scale = max(_length(g) for g in expected.values())
    rows = torch.stack([row, row])
    runs = _attempt(lambda: together.runs(rows, at_once=True, is_last=False), n_rows > 1)
    at_once = runs is not None
    if runs is None:
        runs = together.runs(rows, at_once=False)
    seen, of_first = runs.by_layer, torch.eye(len(row), 2 * len(row)).to(row)

    def is_right(layer: nn.Module) -> bool:
        if layer not in seen:
            return not any(expected[p].any() for p in trained(layer))
        rule = gradients_of_runs(layer, seen[layer])
        pairs = zip(rule.parameters, rule.lift(of_first), strict=True)
        return all(_agree(g, expected[p], scale, epsilon) for p, g in pairs)

    layers = frozenset(c for c in candidates if c not in runs.odd and is_right(c))
    held = {p for layer in layers for p in trained(layer)}
    rest = {n: p for n, p in zip(layout.names, layout.parameters, strict=True) if p not in held}

    def maps() -> bool:
        found = mapped_gradients(model, rest, inputs, row)
        pairs = zip(rest.values(), found, strict=True)
        return all(_agree(g, expected[p], scale, epsilon) for p, g in pairs)

    n_put_out = sum(run.probe.numel() for run in together.taken) // len(row)
    return Rules(
        layers=layers,
        idle=layers - seen.keys(),
        at_once=at_once,
        is_mapped=bool(_attempt(maps, bool(rest))),
        is_independent=is_independent,
        n_kept=kept.n // len(row) + 2 * n_put_out,
        n_put_out=n_put_out,
    )


class _Kept:
    """Counts what autograd saves, without the model's own tensors."""

    def __init__(self, model: nn.Module) -> None:
        own = (*model.parameters(), *model.buffers())
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in own}
        self.n = 0

    def count(self, saved: Tensor) -> Tensor:
        place = saved.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self.n += saved.numel()
        return saved


def _same(saved: Tensor) -> Tensor:
    return saved


def _attempt(attempt: Callable[[], T], is_wanted: bool) -> T | None:
    """Return the result, or None if torch cannot compute it, or only slowly."""
    if not is_wanted:
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "There is a performance drop")
        try:
            return attempt()
        except Exception:  # Anything unsupported has a slower fallback.
            return None


def _agree(found: Tensor, expected: Tensor, scale: float, epsilon: float) -> bool:
    """Return whether two tensors are equal up to the rounding of several sums.

    Args:
        found: Of any shape.
        expected: Of the same shape.
        scale: The largest length of all compared tensors.
        epsilon: The lowest precision among the values they were computed from.
    """
    # In bfloat16, the relative tolerance alone would accept everything.
    relative, absolute = min(30 * epsilon**0.5, 0.1), min(100 * epsilon, 0.03)
    tolerance = relative * _length(expected) + absolute * scale
    return bool(_length(found - expected) <= tolerance)


def _length(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))
