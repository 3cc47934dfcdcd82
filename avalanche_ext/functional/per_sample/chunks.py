"""Passes of a model over all samples, forward and back, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample.backward import LayerRuns, SamplePass, looped_outputs
from avalanche_ext.functional.per_sample.proof import Rules, proved_rules

Rows = Callable[[Tensor, Tensor], Tensor]
"""Given the outputs f(x_n) of some samples, (n, C), and their places among all N, (n,), returns the
constants s, (R, n, C), that are propagated back to the parameters."""

MEMORY = 2**26
"""Maximum number of bytes that a pass of few samples keeps."""

_CACHE = 3 * 2**20
"""Bytes that a pass of many samples may keep on the CPU: on small models, more is slower."""

_FEW = 16


@dataclass(frozen=True)
class Chunk:
    """Some rows of some samples of one task, propagated back.

    Attributes:
        inputs: The model's arguments, each with n rows.
        place: The samples' places among all, (n,).
        n_rows: R.
        part: The indices of these rows.
        rows: s of these, (·, n, C).
        runs: The inputs of the layers.
        rules: How the other gradients are computed.
    """

    inputs: Sequence[Tensor]
    place: Tensor
    n_rows: int
    part: slice
    rows: Tensor
    runs: LayerRuns
    rules: Rules

    def holding(self) -> set[nn.Module]:
        """Return the layers whose rules hold, including those that did not run."""
        return self.rules.holding(self.runs)


def chunks(
    model: nn.Module,
    layout: FlatLayout,
    x: Tensor,
    rows: Rows,
    t: Tensor | None,
    chunk_size: int | None,
) -> Iterator[Chunk]:
    """Propagate all rows of all samples back through a model; arguments as in `summed_powers`.

    A chunk that the caller no longer holds is freed before the next one is created.
    """
    for places in places_by_task(x, t):
        ends = places[:1] if len(places) == 1 else places[[0, -1]]
        first = _inputs(x, t, ends)
        with torch.no_grad():
            n_rows = len(rows(SamplePass(model, [], first).outputs, ends))
        rules = proved_rules(model, layout, first, n_rows)
        n_bytes = layout.parameters[0].element_size()
        size = chunk_size or _fitting(rules, n_rows, n_bytes, x.is_cuda)
        at_a_time = max(1, MEMORY // max(1, size * rules.n_put_out * n_bytes))
        for place in torch.split(places, size):
            yield from _parts(model, rules, _inputs(x, t, place), place, rows, at_a_time)


def _parts(
    model: nn.Module,
    rules: Rules,
    inputs: Sequence[Tensor],
    place: Tensor,
    rows: Rows,
    at_a_time: int,
) -> Iterator[Chunk]:
    forward = SamplePass(model, [*rules.layers], inputs)
    outputs = forward.outputs.detach()
    if not rules.is_independent:
        outputs = torch.cat([alone.detach() for alone in looped_outputs(model, inputs)])
    s = rows(outputs, place)
    for start in range(0, len(s), at_a_time):
        part = slice(start, min(start + at_a_time, len(s)))
        is_last = part.stop == len(s)
        yield Chunk(
            inputs, place, len(s), part, s[part],
            forward.runs(s[part], at_once=rules.at_once, is_last=is_last), rules,
        )  # fmt: skip


def places_by_task(x: Tensor, t: Tensor | None) -> list[Tensor]:
    """Return the indices of each task's samples, or of all samples without task labels.

    Raises:
        ValueError: If there are no samples, or a different number of labels.
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
    if t is not None:
        return [x[place], t[place]]
    is_run = place[-1] - place[0] + 1 == len(place)
    return [x[place[0] : place[-1] + 1] if is_run else x[place]]


def _fitting(rules: Rules, n_rows: int, n_bytes: int, is_cuda: bool) -> int:
    of_sample = max(1, n_bytes * (rules.n_kept + n_rows * rules.n_put_out))
    if is_cuda:
        return max(1, MEMORY // of_sample)
    return max(1, _CACHE // of_sample, min(_FEW, MEMORY // of_sample))
