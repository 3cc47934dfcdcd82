"""Gradients by sample for any parameters: by vmap of grad, or one sample after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from avalanche_ext.functional.model.running import outputs_at


def looped_outputs(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Return f(x_n), (1, C), of one sample after another, each computed when it is asked for."""
    for n in range(len(inputs[0])):
        yield outputs_at({}, model, [x[n : n + 1] for x in inputs])


def looped_gradients(
    outputs: Iterable[Tensor], parameters: Sequence[Tensor], rows: Tensor
) -> Iterator[list[Tensor]]:
    """Return the gradient of ⟨s_rn, f(x_n)⟩ for each n, and for each of these for each r.

    Args:
        outputs: f(x_n), (1, C), for each of N samples.
        parameters: Those for which the gradients are.
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
        model: f, which must be made of operations that `torch.func.vmap` knows.
        parameters: Those for which the gradients are, by their names.
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
