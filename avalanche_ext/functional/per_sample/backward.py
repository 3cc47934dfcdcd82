"""Backward passes from a model's outputs: to layers at once, or to parameters by sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from avalanche_ext.functional.model.running import outputs_at
from avalanche_ext.functional.model.tape import LayerTape


@dataclass
class LayerRuns:
    """Inputs of some layers for n samples, and the gradients at their outputs.

    Attributes:
        by_layer: The inputs, (n, ...), and output gradients, (R, n, ...), of each run.
        odd: Layers that did not see n samples.
    """

    by_layer: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    odd: set[nn.Module] = field(default_factory=set)


class SamplePass:
    """A forward pass of a model over n samples that records the inputs of layers.

    Args:
        model: f.
        layers: The layers to record.
        inputs: The model's arguments, each with n rows.

    Attributes:
        outputs: f(x), (n, C).

    Raises:
        ValueError: If the model returns outputs of another shape.
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
        """Propagate rows back, and return the gradients at the layers' outputs.

        Args:
            rows: Gradients at the model's outputs, (R, n, C).
            at_once: Propagate all R back in one pass, which PyTorch can do for most operations.
            is_last: Whether the graph may be freed.
        """
        n, runs = rows.shape[1], LayerRuns()
        for run, e in zip(self.taken, self._propagated(rows, at_once, is_last), strict=True):
            if e is None:
                continue
            x = run.inputs
            if isinstance(run.layer, nn.Linear) and len(x) > n and len(x) % n == 0 and x.dim() == 2:
                # Consecutive rows of a sample are its positions.
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


def looped_outputs(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield f(x_n), (1, C), of one sample after another, each computed on demand."""
    for n in range(len(inputs[0])):
        yield outputs_at({}, model, [x[n : n + 1] for x in inputs])


def looped_gradients(
    outputs: Iterable[Tensor], parameters: Sequence[Tensor], rows: Tensor
) -> Iterator[list[Tensor]]:
    """Return the gradient of ⟨s_rn, f(x_n)⟩, one after another: for each n, all r.

    Args:
        outputs: f(x_n), (1, C), for each of N samples.
        parameters: Of which parameters.
        rows: s, (R, N, C).
    """
    for n, output in enumerate(outputs):
        for r, row in enumerate(rows[:, n : n + 1]):
            gradients: Sequence[Tensor | None] = [None for _ in parameters]
            if output.requires_grad:
                gradients = torch.autograd.grad(
                    output, parameters, row, retain_graph=r + 1 < len(rows), allow_unused=True
                )
            yield [
                torch.zeros_like(p) if g is None else g.to_dense()
                for g, p in zip(gradients, parameters, strict=True)
            ]


def mapped_gradients(
    model: nn.Module, parameters: Mapping[str, Tensor], inputs: Sequence[Tensor], row: Tensor
) -> list[Tensor]:
    """Return the gradient of ⟨s_n, f(x_n)⟩ for all n at once, (N, *shape) of each parameter.

    Args:
        model: f, made of operations that `torch.func.vmap` knows.
        parameters: Of which parameters, by their names.
        inputs: Of N samples.
        row: s, (N, C).
    """
    constant = {name: p.detach() for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    varied = {name: constant.pop(name) for name in parameters}

    def product(varied: dict[str, Tensor], row: Tensor, *inputs: Tensor) -> Tensor:
        alone = tuple(part[None] for part in inputs)
        outputs: Tensor = functional_call(model, {**constant, **buffers, **varied}, alone)
        return (outputs[0] * row).sum()

    in_dims = (None, 0, *[0 for _ in inputs])
    gradients = vmap(grad(product), in_dims=in_dims, randomness="different")(varied, row, *inputs)
    return [*gradients.values()]
