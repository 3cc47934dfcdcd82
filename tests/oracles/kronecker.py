"""Kronecker factors from what each layer sees of each sample alone, and the dense matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.arrays import Array


def factors_by_loops(
    model: nn.Module, x: Tensor, weights: Tensor, sharing: str, t: Tensor | None = None
) -> dict[str, tuple[Array, Array]]:
    """A and G of each linear layer and two-dimensional convolution, by its name.

    Martens, Grosse (2015), equation 1, for the gradients of log p_c, weighted by weights[n, c].
    Several positions l of a sample are as in Eschenhagen et al. (2023), section 3:
    "expand" has the mean of a_l a_l' and the sum of e_l e_l', "reduce" means of a, and sums of e.
    """
    model.eval()
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
        and any(p.requires_grad for p in layer.parameters())
    }
    inputs: dict[str, list[Array]] = {name: [] for name in layers}
    outputs: dict[str, list[Array]] = {name: [] for name in layers}
    for n in range(len(x)):
        for c in range(weights.shape[1]):
            runs = _run(model, layers, x[n : n + 1], None if t is None else t[n : n + 1], c)
            for name, (a, e) in runs.items():
                if sharing == "reduce":
                    a, e = a.mean(0, keepdims=True), e.sum(0, keepdims=True)
                outputs[name].append(float(weights[n, c]) * e.T @ e / len(x))
                if c == 0:
                    inputs[name].append(a.T @ a / len(a))
    return {
        name: (np.mean(inputs[name], axis=0), np.sum(outputs[name], axis=0))
        for name in layers
        if inputs[name]
    }


def dense_by_loops(
    model: nn.Module,
    factors: Mapping[str, tuple[Array, Array]],
    diagonal: Mapping[str, Array],
) -> Array:
    """(P, P): entry by entry, A[i, j] G[o, p] where parameters (o, i) and (p, j) are of one layer.

    The bias is input number I. Other parameters have their diagonal.
    """
    places: list[tuple[str, int, int]] = []
    for name, p in model.named_parameters():
        layer, _, part = name.rpartition(".")
        if not p.requires_grad:
            continue
        if layer not in factors:
            places += [(name, k, -1) for k in range(p.numel())]
        elif part == "weight":
            width = p[0].numel()
            places += [(layer, o, i) for o in range(len(p)) for i in range(width)]
        else:
            places += [(layer, o, len(factors[layer][0]) - 1) for o in range(len(p))]
    dense = np.zeros((len(places), len(places)))
    for row, (layer, o, i) in enumerate(places):
        for column, (other, p, j) in enumerate(places):
            if layer == other and i >= 0:
                a, g = factors[layer]
                dense[row, column] = a[i, j] * g[o, p]
            elif row == column:
                dense[row, row] = np.ravel(diagonal[layer])[o]
    return dense


def nearest_by_svd(dense: Array, n_outputs: int) -> Array:
    """The Kronecker product nearest to a matrix over (outputs, inputs), itself dense.

    Van Loan, Pitsianis (1993): the matrix whose rows are the blocks, one for each pair of outputs,
    has rank 1 for a Kronecker product.
    """
    n = len(dense) // n_outputs
    blocks = dense.reshape(n_outputs, n, n_outputs, n).transpose(0, 2, 1, 3)
    u, s, vh = np.linalg.svd(blocks.reshape(n_outputs**2, n**2))
    return np.kron((s[0] * u[:, 0]).reshape(n_outputs, n_outputs), vh[0].reshape(n, n))


def _run(
    model: nn.Module, layers: Mapping[str, nn.Module], x: Tensor, t: Tensor | None, c: int
) -> dict[str, tuple[Array, Array]]:
    """What each layer that runs sees, (L, I), and d log p_c at its outputs, (L, O)."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    handles = []
    for name, layer in layers.items():

        def hook(layer: nn.Module, given: tuple[Tensor], put: Tensor, name: str = name) -> Tensor:
            seen.setdefault(name, []).append((given[0], put))
            return put.clone()  # What follows may change it in place.

        handles.append(layer.register_forward_hook(hook))
    log_p = model(*([x] if t is None else [x, t])).log_softmax(1)[0, c]
    for handle in handles:
        handle.remove()
    runs = {}
    for name, pairs in seen.items():
        layer = layers[name]
        gradients = torch.autograd.grad(log_p, [put for _, put in pairs], retain_graph=True)
        rows = [
            _positions(layer, a.detach(), e) for (a, _), e in zip(pairs, gradients, strict=True)
        ]
        a, e = (np.concatenate([row[k] for row in rows]) for k in (0, 1))
        columns = [a] if layer.weight.requires_grad else []
        if layer.bias is not None and layer.bias.requires_grad:
            columns.append(np.ones((len(a), 1)))
        runs[name] = np.concatenate(columns, 1), e
    return runs


def _positions(layer: nn.Module, a: Tensor, e: Tensor) -> tuple[Array, Array]:
    if isinstance(layer, nn.Conv2d):
        patches = nn.functional.unfold(
            a, layer.kernel_size, layer.dilation, layer.padding, layer.stride
        )
        return patches[0].T.numpy(), e[0].flatten(1).T.numpy()
    return a.reshape(-1, a.shape[-1]).numpy(), e.reshape(-1, e.shape[-1]).numpy()
