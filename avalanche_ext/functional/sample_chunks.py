"""Passes of a model over all samples, chunk by chunk, without a trace left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_ext.functional.gradients import FlatLayout
from avalanche_ext.functional.running import evaluating, generators_kept, outputs_at
from avalanche_ext.functional.sample_loops import looped_outputs
from avalanche_ext.functional.sample_passes import LayerRuns, SamplePass
from avalanche_ext.functional.sample_rules import Rules, shown_rules

Rows = Callable[[Tensor, Tensor], Tensor]
"""From the outputs f(x_n) of some samples, (n, C), and their places among all N, (n,), what is
propagated back to the parameters: s, (R, n, C), constants."""

MEMORY = 2**26
"""Bytes that a pass of few samples may keep."""

_CACHE = 2**22
"""Bytes that a pass of many samples may keep: on small models, more is slower."""

_FEW = 16


@dataclass(frozen=True)
class Chunk:
    """Some rows of some samples of one task, propagated back.

    Attributes:
        inputs: What the model was called with, each with n rows.
        place: The samples' places among all, (n,).
        n_rows: R.
        part: Which rows these are.
        rows: s of these, (·, n, C).
        runs: What the layers saw.
        holding: The layers whose rules hold, also where they did not run.
        rules: How the rest can be had.
    """

    inputs: Sequence[Tensor]
    place: Tensor
    n_rows: int
    part: slice
    rows: Tensor
    runs: LayerRuns
    holding: set[nn.Module]
    rules: Rules


@contextmanager
def left_as_it_was(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Have a model in eval mode and gradients enabled inside; put modes and generators back."""
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(generators_kept(x.device))
        stack.enter_context(torch.enable_grad())
        yield


def chunks(
    model: nn.Module,
    layout: FlatLayout,
    x: Tensor,
    rows: Rows,
    t: Tensor | None,
    chunk_size: int | None,
) -> Iterator[Chunk]:
    """Return all rows of all samples, propagated back through a model; see `per_sample`."""
    for places in places_by_task(x, t):
        first = _inputs(x, t, places[:2])
        with torch.no_grad():
            n_rows = len(rows(outputs_at({}, model, first), places[:2]))
        rules = shown_rules(model, layout, first, n_rows)
        n_bytes = layout.parameters[0].element_size()
        size = chunk_size or _fitting(rules, n_rows, n_bytes)
        at_a_time = max(1, MEMORY // max(1, size * rules.n_put_out * n_bytes))
        for place in torch.split(places, size):
            inputs = _inputs(x, t, place)
            forward = SamplePass(model, [*rules.layers], inputs)
            outputs = forward.outputs.detach()
            if not rules.is_independent:
                outputs = torch.cat([alone.detach() for alone in looped_outputs(model, inputs)])
            s = rows(outputs, place)
            for start in range(0, len(s), at_a_time):
                part = slice(start, min(start + at_a_time, len(s)))
                is_last = part.stop == len(s)
                runs = forward.runs(s[part], at_once=rules.at_once, is_last=is_last)
                yield Chunk(inputs, place, len(s), part, s[part], runs, rules.holding(runs), rules)


def places_by_task(x: Tensor, t: Tensor | None) -> list[Tensor]:
    """Return the places of the samples of each task; those of all where there are no labels.

    Raises:
        ValueError: If there are no samples, or not as many labels.
    """
    if not len(x):
        raise ValueError("x has no samples")
    if t is None:
        return [torch.arange(len(x))]
    if t.shape != (len(x),):
        raise ValueError(
            f"t has the shape {tuple(t.shape)}: must be ({len(x)},), a label for each sample of x"
        )
    return [(t == task).nonzero()[:, 0].cpu() for task in torch.unique(t)]


def _inputs(x: Tensor, t: Tensor | None, place: Tensor) -> list[Tensor]:
    return [x[place[0] : place[-1] + 1]] if t is None else [x[place], t[place]]


def _fitting(rules: Rules, n_rows: int, n_bytes: int) -> int:
    of_sample = max(1, n_bytes * (rules.n_kept + n_rows * rules.n_put_out))
    return max(1, _CACHE // of_sample, min(_FEW, MEMORY // of_sample))
