"""Gradients of linear layers as products of small factors, formed only where they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.tape import LayerFactors
from avalanche_ext.functional.projection.projection import Projection, Solver, project

# Relative to the gradient's length, well above what rounding makes of a product of factors.
_SAME = 1e-5


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
