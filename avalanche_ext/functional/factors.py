"""Gradients of linear layers as products of small factors, formed only where they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avalanche_ext.functional.gradients import FlatLayout
from avalanche_ext.functional.projection import Projection, Solver, project

# Relative to the gradient's length, well above what rounding makes of a product of factors.
_SAME = 1e-5


@dataclass(frozen=True)
class LayerFactors:
    """What the gradients of one linear layer are made of.

    Attributes:
        layer: The layer, with its weight W (H, F) and perhaps a bias (H,).
        inputs: X, (N, F).
        output_gradients: E, (N, H), so that the gradient of W is EᵀX and that of the bias Eᵀ1.
    """

    layer: nn.Linear
    inputs: Tensor
    output_gradients: Tensor

    def of_parameters(self) -> Iterator[tuple[Tensor, bool]]:
        """Return the layer's trained parameters, and whether each is the weight."""
        for parameter, is_weight in ((self.layer.weight, True), (self.layer.bias, False)):
            if parameter is not None and parameter.requires_grad:
                yield parameter, is_weight


class LinearTape:
    """Records the factors of the gradients of a model's linear layers while the model runs.

    It adds zeros, the probes, to what the layers put out; the gradient of the loss at a probe is E,
    and asking autograd for it alone leaves the product EᵀX, most of a backward pass, undone.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._runs: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def covers(self, layout: FlatLayout) -> bool:
        """Tell whether each of the layout's parameters lies in one linear layer and one block."""
        own = [p for layer in self.layers for p in (layer.weight, layer.bias) if p is not None]
        owned = sorted(id(p) for p in own if p.requires_grad)
        return layout.block_of is not None and owned == sorted(id(p) for p in layout.parameters)

    def start(self) -> None:
        """Record from now on, and forget what was recorded before."""
        self.stop()
        self._runs = []
        self._handles = [
            layer.register_forward_hook(self._record, with_kwargs=True) for layer in self.layers
        ]

    def stop(self) -> None:
        """Record no more."""
        while self._handles:
            self._handles.pop().remove()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what runs inside."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def _record(
        self,
        layer: nn.Linear,
        positional: tuple[Tensor, ...],
        named: dict[str, Tensor],
        output: Tensor,
    ) -> Tensor:
        (x,) = (*positional, *named.values())
        probe = torch.zeros_like(output, requires_grad=True)
        self._runs.append((layer, x.detach(), probe))
        return output + probe

    def factors_of(self, loss: Tensor) -> list[LayerFactors]:
        """Return the factors of the gradient of a loss of what was recorded, and forget it."""
        probes = [probe for _, _, probe in self._runs]
        return self._factors(torch.autograd.grad(loss, probes, allow_unused=True))

    def factors_after_backward(self) -> list[LayerFactors]:
        """Return the factors of what `backward` has added to the parameters' `grad`, as above."""
        return self._factors([probe.grad for _, _, probe in self._runs])

    def _factors(self, gradients: Sequence[Tensor | None]) -> list[LayerFactors]:
        runs, self._runs = self._runs, []
        return [
            LayerFactors(layer, _as_rows(x), _as_rows(gradient))
            for (layer, x, _), gradient in zip(runs, gradients, strict=True)
            if gradient is not None
        ]


def _as_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def make_up(factors: Sequence[LayerFactors], layout: FlatLayout, gradient: Tensor) -> bool:
    """Tell whether a gradient, (P,), is that of these factors.

    It is not where parameters are penalised directly, or used otherwise than by the layers that own
    them.
    """
    formed = torch.empty_like(gradient)
    _write_products(factors, formed, _places(layout, range(len(layout.blocks))))
    difference = torch.linalg.vector_norm(formed - gradient)
    return bool(difference <= _SAME * torch.linalg.vector_norm(gradient))


class FactoredGradients:
    """Reference gradients that are kept as factors until a projection needs some of them.

    The inner product of the gradients of one layer, Σ (E_k E_cᵀ) ∘ (X_k X_cᵀ + 1), costs little
    where a batch c is small. So violations are looked for first, and EᵀX is formed only for the
    blocks in which there are some.

    Args:
        layout: The parameters; its blocks must not cut through them.
        batch: Factors of the gradient that is to be projected.
        chunks: Factors of the reference gradients, of several groups of samples at a time.
        sizes: Number of samples of each group, in order, by chunk; where a chunk has several, its
            factors have that many rows.
    """

    def __init__(
        self,
        layout: FlatLayout,
        batch: Sequence[LayerFactors],
        chunks: Sequence[Sequence[LayerFactors]],
        sizes: Sequence[list[int]],
    ) -> None:
        self.layout = layout
        self.batch = batch
        self.chunks = chunks
        self.sizes = sizes

    @property
    def are_separable(self) -> bool:
        """Whether the rows of each chunk of several groups are its samples, in order."""
        return all(
            len(factors.inputs) == sum(sizes)
            for chunk, sizes in zip(self.chunks, self.sizes, strict=True)
            if len(sizes) > 1
            for factors in chunk
        )

    def project(self, gradient: Tensor, memory_strength: float, solver: Solver) -> Projection:
        """Do as `projection.project` does, given the gradient whose factors `batch` has, (P,)."""
        violated = ~(self.products() >= 0)
        active = torch.zeros_like(violated)
        touched = violated.any(dim=1).nonzero().flatten().tolist()
        if not touched:
            return Projection(gradient, violated, active)
        pieces = [*torch.split(gradient, self.layout.blocks)]
        sizes = [self.layout.blocks[block] for block in touched]
        inside = project(
            torch.cat([pieces[block] for block in touched]),
            self.references(touched),
            memory_strength,
            solver,
            blocks=sizes,
        )
        active[touched] = inside.active
        for block, piece in zip(touched, torch.split(inside.gradient, sizes), strict=True):
            pieces[block] = piece
        return Projection(torch.cat(pieces), violated, active)

    def products(self) -> Tensor:
        """Return ⟨g, g_k⟩ by block and reference, (B, T)."""
        columns = [self._products(*chunk) for chunk in zip(self.chunks, self.sizes, strict=True)]
        of_parameters = torch.cat(columns, dim=1)
        blocks = torch.tensor(self.layout.block_of, device=of_parameters.device)
        products = of_parameters.new_zeros(len(self.layout.blocks), of_parameters.shape[1])
        return products.index_add_(0, blocks, of_parameters)

    def _products(self, chunk: Sequence[LayerFactors], sizes: list[int]) -> Tensor:
        """Return ⟨g, g_k⟩ by parameter and group of a chunk, (n, groups)."""
        index = {id(p): i for i, p in enumerate(self.layout.parameters)}
        by_sample = chunk[0].inputs.new_zeros(len(index), sum(sizes) if len(sizes) > 1 else 1)
        for theirs in chunk:
            for ours in self.batch:
                if ours.layer is not theirs.layer:
                    continue
                # The batch, which has fewer rows, comes first: the products are faster that way.
                outputs = ours.output_gradients @ theirs.output_gradients.T
                inputs = ours.inputs @ theirs.inputs.T
                for parameter, is_weight in theirs.of_parameters():
                    rows = (outputs * inputs if is_weight else outputs).sum(dim=0)
                    # A chunk of one group may have other rows than samples.
                    rows = rows if len(sizes) > 1 else rows.sum()
                    by_sample[index[id(parameter)]] += rows
        if len(sizes) == 1:
            return by_sample
        return torch.stack([rows.sum(1) for rows in torch.split(by_sample, sizes, dim=1)], dim=1)

    def references(self, blocks: Sequence[int]) -> Tensor:
        """Return the columns of the reference gradients that lie in some blocks, (T, P′)."""
        places = _places(self.layout, blocks)
        n_columns = max(place.stop for place in places.values())
        n_groups = sum(len(sizes) for sizes in self.sizes)
        references = self.chunks[0][0].inputs.new_empty(n_groups, n_columns)
        groups = (
            group
            for chunk, sizes in zip(self.chunks, self.sizes, strict=True)
            for group in _by_group(chunk, sizes)
        )
        for row, group in zip(references, groups, strict=True):
            _write_products(group, row, places)
        return references


def _places(layout: FlatLayout, blocks: Sequence[int]) -> dict[int, slice]:
    """Return where each parameter (its id) of some blocks lies in a vector of these alone."""
    places, start = {}, 0
    assert layout.block_of is not None
    for block, p in zip(layout.block_of, layout.parameters, strict=True):
        if block in blocks:
            places[id(p)] = slice(start, start + p.numel())
            start += p.numel()
    return places


def _by_group(chunk: Sequence[LayerFactors], sizes: list[int]) -> list[list[LayerFactors]]:
    if len(sizes) == 1:
        return [[*chunk]]
    groups: list[list[LayerFactors]] = [[] for _ in sizes]
    for f in chunk:
        inputs, gradients = torch.split(f.inputs, sizes), torch.split(f.output_gradients, sizes)
        for group, x, e in zip(groups, inputs, gradients, strict=True):
            group.append(LayerFactors(f.layer, x, e))
    return groups


def _write_products(
    factors: Sequence[LayerFactors], vector: Tensor, places: Mapping[int, slice]
) -> None:
    """Write the gradients of the parameters that have a place in `vector` to it."""
    unwritten = {**places}
    for f in factors:
        for parameter, is_weight in f.of_parameters():
            if id(parameter) not in places:
                continue
            place = vector[places[id(parameter)]]
            # A layer that ran twice adds to what is there; all others need not clear it first.
            keep = 1 if unwritten.pop(id(parameter), None) is None else 0
            if is_weight:
                place.view_as(parameter).addmm_(f.output_gradients.T, f.inputs, beta=keep)
            else:
                place.addmv_(f.output_gradients.T, place.new_ones(len(f.inputs)), beta=keep)
    for columns in unwritten.values():
        vector[columns].zero_()
