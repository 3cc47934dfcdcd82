"""How similar gradients are: the largest cosine of each with some reference gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from avalanche_ext.functional.model.gradients import (
    FlatLayout,
    loss_gradients,
)
from avalanche_ext.functional.model.running import Criterion, is_samplewise, left_as_it_was
from avalanche_ext.functional.model.tape import LinearGradients, LinearTape

Group = tuple[Sequence[Tensor], Tensor]
"""The inputs of a model, each with n rows, and their labels, (n,)."""

# Relative to the gradient's length; well above the rounding error of a sum of products.
_SAME = 1e-5


def max_cosine(gradients: Tensor, references: Tensor) -> Tensor:
    """Return the largest cosine of each gradient with any of some references.

    A cosine with a gradient that is zero, or not finite, counts as 0.

    Args:
        gradients: (B, P).
        references: (T, P), at least one.

    Returns:
        Cosines (B,), from −1 to 1.
    """
    return _largest(gradients @ references.T, _lengths(gradients), _lengths(references))


class GradientSimilarity:
    """Compares the gradients of a criterion on groups of samples with those on other groups.

    The model runs in eval mode. The model, its gradients and buffers, and the global generators do
    not change. If the model consists of linear layers and is called with samples alone, all groups
    run in one pass, and the inner products of their gradients follow from the layers' inputs, Σ (E
    Eᵀ) ∘ (X Xᵀ + 1); see `LinearGradients`. A `forward` that mixes the samples of a batch by itself
    would then mix samples of different groups. Any other model runs a forward and a backward pass
    for each group. To compare 10 samples with 10 groups of 10, one pass takes a third of the time
    of separate passes on an MLP with two hidden layers of 100 units, and a sixth with 400.

    Args:
        model: Gradients are taken for its trained parameters.
        criterion: Returns a scalar, given outputs and labels.
    """

    def __init__(self, model: nn.Module, criterion: Criterion) -> None:
        self.model = model
        self.criterion = criterion
        self._layout = FlatLayout(model.named_parameters())
        self._tape = LinearTape(model)
        self._is_factored: bool | None = None

    def is_of(self, model: nn.Module, criterion: Criterion) -> bool:
        """Return whether it was made for this criterion and the model's current parameters."""
        same = self.model is model and self.criterion is criterion
        return same and self._layout.is_of(model.named_parameters())

    def references(self, groups: Sequence[Group]) -> References:
        """Return the gradients on some groups, at least one, as references for others."""
        with left_as_it_was(self.model, groups[0][1]):
            if self._is_factored is None:
                self._is_factored = self._can_be_factored(groups)
            gradients = self.factored(groups) if self._is_factored else self.formed(groups)
        return References(self, gradients)

    def formed(self, groups: Sequence[Group]) -> Tensor:
        """Return the gradients on some groups, (G, P), in the model's current mode."""
        return loss_gradients([partial(self._loss, *group) for group in groups], self._layout)

    def factored(self, groups: Sequence[Group]) -> FactoredGroups:
        """Return the same gradients as factors, from one pass."""
        with self._tape.recording():
            total = self._total(groups)
        return FactoredGroups(self._tape.gradients_of(total), [len(y) for _, y in groups])

    def _loss(self, inputs: Sequence[Tensor], y: Tensor) -> Tensor:
        loss: Tensor = self.criterion(self.model(*inputs), y)
        return loss

    def _total(self, groups: Sequence[Group]) -> Tensor:
        """Return the sum of the losses of all groups."""
        inputs = [torch.cat(parts) for parts in zip(*(part for part, _ in groups), strict=True)]
        outputs = torch.split(self.model(*inputs), [len(y) for _, y in groups])
        losses = [self.criterion(o, y) for o, (_, y) in zip(outputs, groups, strict=True)]
        return torch.stack(losses).sum()

    def _can_be_factored(self, groups: Sequence[Group]) -> bool:
        """Return whether linear layers see one row of each sample and account for all gradients."""
        # Layers selected by task label see the samples in a different order.
        if len(groups[0][0]) > 1 or not is_samplewise(self.model):
            return False
        if not self._tape.covers(self._layout.parameters):
            return False
        found = self.factored(groups)
        if any(len(g.inputs) != sum(found.sizes) for g in found.layers):
            return False
        (gradient,) = loss_gradients([partial(self._total, groups)], self._layout)
        return _make_up(found.layers, self._layout, gradient)


class FactoredGroups:
    """The gradients on groups of samples, as factors in which each row belongs to a sample.

    Args:
        layers: The gradients of the linear layers, rows of all groups one after another.
        sizes: Number of samples of each of G groups.
    """

    def __init__(self, layers: Sequence[LinearGradients], sizes: Sequence[int]) -> None:
        self.layers = layers
        self.sizes = sizes

    def products(self, others: FactoredGroups) -> Tensor:
        """Return the inner products with the gradients on other groups, (G, T)."""
        # In single precision, products of small gradients would underflow to 0.
        shape = sum(self.sizes), sum(others.sizes)
        by_sample = self.layers[0].inputs.new_zeros(shape, dtype=torch.float64)
        for ours in self.layers:
            for theirs in others.layers:
                if ours.layer is theirs.layer:
                    by_sample += ours.products(theirs, by_sample.dtype)
        return _summed(_summed(by_sample, self.sizes).T, others.sizes).T

    @cached_property
    def lengths(self) -> Tensor:
        """The lengths of the gradients, (G,)."""
        return self.products(self).diagonal().clamp(min=0).sqrt()


class References:
    """Reference gradients; see `GradientSimilarity.references`."""

    def __init__(self, similarity: GradientSimilarity, gradients: Tensor | FactoredGroups) -> None:
        self._similarity = similarity
        self._gradients = gradients

    def max_cosines(self, groups: Sequence[Group]) -> Tensor:
        """Return the largest cosine of the gradient on each of B groups with any reference, (B,).

        A cosine with a gradient that is zero, or not finite, counts as 0.
        """
        compare, references = self._similarity, self._gradients
        with left_as_it_was(compare.model, groups[0][1]):
            if isinstance(references, FactoredGroups):
                found = compare.factored(groups)
                return _largest(found.products(references), found.lengths, references.lengths)
            # One at a time: the gradients of a whole batch may not fit in memory.
            return torch.cat([max_cosine(compare.formed([g]), references) for g in groups])


def _make_up(layers: Sequence[LinearGradients], layout: FlatLayout, gradient: Tensor) -> bool:
    """Return whether a gradient, (P,), is the sum of all rows of these layers.

    It is not if a parameter is also used outside the layer that owns it.
    """
    formed = torch.zeros_like(gradient)
    places = dict(zip(layout.parameters, layout.pieces(formed), strict=True))
    for layer in layers:
        n_rows, n_samples, _ = layer.output_gradients.shape
        sums = layer.lift(gradient.new_ones(1, n_rows * n_samples))
        for parameter, total in zip(layer.parameters, sums, strict=True):
            places[parameter] += total[0]
    difference = torch.linalg.vector_norm(formed - gradient)
    return bool(difference <= _SAME * torch.linalg.vector_norm(gradient))


def _summed(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the sums over groups of consecutive rows, (G, ·)."""
    group = torch.repeat_interleave(
        torch.arange(len(sizes), device=rows.device),
        torch.tensor(sizes, device=rows.device),
        output_size=len(rows),
    )
    return rows.new_zeros(len(sizes), rows.shape[1]).index_add_(0, group, rows)


def _lengths(gradients: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(gradients, dim=1)
    return lengths


def _largest(products: Tensor, lengths: Tensor, reference_lengths: Tensor) -> Tensor:
    cosines: Tensor = products / lengths[:, None] / reference_lengths
    return cosines.nan_to_num(0, 0, 0).amax(1).clamp(-1, 1)
