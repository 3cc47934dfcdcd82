"""Passes of a model over samples in which the factors of layers' gradients are recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import outputs_at
from avalanche_ext.functional.model.tape import LayerTape
from avalanche_ext.functional.per_sample.rules import has_rule


def layers_with_rules(model: nn.Module, layout: FlatLayout) -> list[nn.Module]:
    """Return the layers that own trained parameters, share none, and have rules."""
    owned = [(m, id(p)) for m in model.modules() for p in m.parameters(recurse=False)]
    n_owners = Counter(key for _, key in owned)
    trained = {id(p) for p in layout.parameters}
    owners = dict.fromkeys(module for module, key in owned if key in trained)
    shared = {module for module, key in owned if n_owners[key] > 1}
    return [module for module in owners if module not in shared and has_rule(module)]


@dataclass
class LayerRuns:
    """What some layers saw of n samples, and the gradients at what they put out.

    Attributes:
        by_layer: The inputs, (n, ...), and output gradients, (R, n, ...), of each run.
        odd: Layers that did not see n samples.
    """

    by_layer: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    odd: set[nn.Module] = field(default_factory=set)


class SamplePass:
    """A forward pass of a model over n samples, with what its layers saw.

    Args:
        model: f.
        layers: Those that are recorded.
        inputs: What the model is called with, each with n rows.

    Attributes:
        outputs: f(x), (n, C).

    Raises:
        ValueError: If the model returns anything else.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[nn.Module], inputs: Sequence[Tensor]
    ) -> None:
        tape = LayerTape(layers)
        with tape.recording():
            self.outputs = outputs_at({}, model, inputs)
        self.taken = tape.taken()
        n = len(inputs[0])
        if self.outputs.dim() != 2 or len(self.outputs) != n:
            raise ValueError(
                f"the model must return outputs of shape ({n}, C) for {n} samples, and returned "
                f"{tuple(self.outputs.shape)}"
            )

    def runs(self, rows: Tensor, *, at_once: bool, is_last: bool = True) -> LayerRuns:
        """Return what rows, (R, n, C), are propagated back to.

        Args:
            rows: Gradients at the outputs.
            at_once: Propagate all R back in one pass, for which PyTorch must have a rule for each
                operation.
            is_last: Whether the graph is needed no more.
        """
        n, runs = rows.shape[1], LayerRuns()
        for run, e in zip(self.taken, self._propagated(rows, at_once, is_last), strict=True):
            if e is None:
                continue
            x = run.inputs
            if isinstance(run.layer, nn.Linear) and len(x) > n and len(x) % n == 0 and x.dim() == 2:
                # A sample's rows, one after another, are positions.
                x, e = x.reshape(n, -1, x.shape[-1]), e.reshape(len(e), n, -1, e.shape[-1])
            if len(x) != n or e.shape[1] != n:
                runs.odd.add(run.layer)
            runs.by_layer.setdefault(run.layer, []).append((x, e))
        return runs

    def _propagated(self, rows: Tensor, at_once: bool, is_last: bool) -> list[Tensor | None]:
        probes = [run.probe for run in self.taken]
        if not (probes and self.outputs.requires_grad):
            return [None for _ in probes]
        if at_once and len(rows) > 1:
            return [
                *torch.autograd.grad(
                    self.outputs, probes, rows, not is_last, allow_unused=True,
                    is_grads_batched=True,
                )
            ]  # fmt: skip
        by_row = [
            torch.autograd.grad(
                self.outputs, probes, row, not is_last or r + 1 < len(rows), allow_unused=True
            )
            for r, row in enumerate(rows)
        ]
        if len(rows) == 1:
            return [None if e is None else e[None] for e in by_row[0]]
        return [
            None if any(e is None for e in es) else torch.stack([e for e in es if e is not None])
            for es in zip(*by_row, strict=True)
        ]
