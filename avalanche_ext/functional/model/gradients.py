"""Gradients as vectors: the layout of parameters, and the gradients of several losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from avalanche_ext.functional.model.running import Criterion
from avalanche_ext.functional.model.wrapped import plain_name, uncompiled

NamedPartition = Literal["none", "layer", "tensor"]
Partition = NamedPartition | int | list[str]


class FlatLayout:
    """The trainable parameters of a model as one vector, divided into consecutive blocks.

    Args:
        parameters: Names and parameters, as `model.named_parameters()` gives them; parameters that
            need no gradient are left out.
        partition: The blocks. "none": one block. "layer": one for each module that owns parameters.
            "tensor": one for each parameter. A number: that many blocks, whose sizes differ by at
            most one coordinate. A list of patterns, as for file names: one block for each pattern,
            with the parameters that it is the first to match, and one block for all others;
            patterns match names without `torch.compile`'s prefix. Blocks are in the order of their
            first parameters.

    Attributes:
        names: Names in the order of the vector, n of them.
        parameters: The parameters, in the same order.
        layers: The names of the modules that own them, without `torch.compile`'s prefix.
        numels: Their numbers of coordinates.
        blocks: Sizes of the blocks, with the sum P.

    Raises:
        ValueError: If there is no parameter, a pattern matches none, or there are more blocks than
            coordinates.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, nn.Parameter]], partition: Partition = "none"
    ) -> None:
        trained = [(name, p) for name, p in parameters if p.requires_grad]
        if not trained:
            raise ValueError("the model has no parameter that needs a gradient")
        plain = [plain_name(name) for name, _ in trained]
        keys = _block_keys(plain, partition)
        first_of = {key: i for i, key in reversed([*enumerate(keys)])}
        order = sorted(range(len(keys)), key=lambda i: first_of[keys[i]])
        self.names = [trained[i][0] for i in order]
        self.parameters = [trained[i][1] for i in order]
        self.layers = [_layer_of(plain[i]) for i in order]
        self.numels = [p.numel() for p in self.parameters]
        if isinstance(partition, int):
            self.blocks = _equal_sizes(sum(self.numels), partition)
        else:
            sizes: Counter[str | None] = Counter()
            for i, numel in zip(order, self.numels, strict=True):
                sizes[keys[i]] += numel
            self.blocks = [*sizes.values()]

    def is_of(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> bool:
        """Return whether these are the parameters of this layout."""
        trained = {id(p) for _, p in parameters if p.requires_grad}
        return trained == {id(p) for p in self.parameters}

    def flatten(self, gradients: Sequence[Tensor | None], out: Tensor | None = None) -> Tensor:
        """Return gradients, one for each parameter, as a vector, (P,); None stands for zeros."""
        pieces = [
            p.new_zeros(p.numel()) if g is None else g.reshape(-1)
            for g, p in zip(gradients, self.parameters, strict=True)
        ]
        return torch.cat(pieces, out=out)

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """Split a vector, (P,), into views in the shapes of the parameters."""
        parts = torch.split(vector, self.numels)
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def gradient(self) -> Tensor:
        """Return the parameters' `grad` as a vector, (P,)."""
        return self.flatten([p.grad for p in self.parameters])

    def write_gradient(self, vector: Tensor) -> None:
        """Write a vector, (P,), to the parameters' `grad`.

        A parameter without a gradient gets none where the vector is zero, since optimizers treat
        a gradient of zero differently from no gradient.
        """
        for p, piece in zip(self.parameters, self.pieces(vector), strict=True):
            if p.grad is not None:
                p.grad.copy_(piece)
            elif piece.any():
                p.grad = piece.clone()


def loss_gradients(losses: Sequence[Callable[[], Tensor]], layout: FlatLayout) -> Tensor:
    """Return the gradient of each loss, (T, P), with one backward pass each.

    Args:
        losses: T functions that compute a scalar loss.
        layout: The parameters that gradients are taken for.
    """
    parameters = layout.parameters
    gradients = parameters[0].new_empty(len(losses), sum(layout.numels))
    for row, loss in zip(gradients, losses, strict=True):
        layout.flatten(torch.autograd.grad(loss(), parameters, allow_unused=True), out=row)
    return gradients


def batched_loss_gradients(
    model: nn.Module, criterion: Criterion, x: Tensor, y: Tensor, layout: FlatLayout
) -> Tensor:
    """Return the gradient of the loss of each group of samples, (T, P), in one backward pass.

    Args:
        model: Called with samples alone; see `is_samplewise`.
        criterion: Returns a scalar, given outputs and labels.
        x: Samples, (T, n, ...).
        y: Labels, (T, n).
        layout: The parameters that gradients are taken for.
    """
    trained = {name: p.detach() for name, p in zip(layout.names, layout.parameters, strict=True)}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return criterion(functional_call(model, parameters, (x,)), y)

    by_group = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    with uncompiled():
        gradients = by_group(trained, x, y)
    return torch.cat([gradients[name].flatten(1) for name in layout.names], dim=1)


def _block_keys(names: Sequence[str], partition: Partition) -> list[str | None]:
    if partition == "tensor":
        return [*names]
    if partition == "layer":
        return [_layer_of(name) for name in names]
    if not isinstance(partition, list):
        return [None] * len(names)
    keys = [next((p for p in partition if fnmatchcase(name, p)), None) for name in names]
    for pattern in partition:
        if pattern in keys:
            continue
        if any(fnmatchcase(name, pattern) for name in names):
            found = "only parameters that earlier patterns took"
        else:
            found = f"no parameter, of {', '.join(names)}"
        raise ValueError(f"partition={partition}: {pattern!r} matches {found}")
    return keys


def _layer_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _equal_sizes(total: int, n: int) -> list[int]:
    if not 1 <= n <= total:
        raise ValueError(f"partition={n}: must be between 1 and {total}, the number of parameters")
    return [total // n + (i < total % n) for i in range(n)]
