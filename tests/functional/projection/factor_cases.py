"""Factored gradients beside whole ones of the same losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from avalanche_ext.functional.model.gradients import FlatLayout, Partition
from avalanche_ext.functional.model.tape import LayerFactors, LinearTape
from avalanche_ext.functional.projection.factors import FactoredGradients, make_up
from tests.functional.model.gradient_cases import gradient, samples


class Both:
    """The gradient of a batch and those of groups of samples, (P,) and (T, P), in both forms."""

    def __init__(self, model: nn.Module, partition: Partition) -> None:
        self.model = model
        self.layout = FlatLayout(model.named_parameters(), partition)
        self.tape = LinearTape(model)
        self.gradient = torch.empty(0)
        self._batch: list[LayerFactors] = []
        self._chunks: list[list[LayerFactors]] = []
        self._sizes: list[list[int]] = []
        self._rows: list[Tensor] = []

    def batch(self, loss: Callable[[], Tensor]) -> None:
        """Take the gradient of a loss as the one that is to be projected."""
        self.model.zero_grad(set_to_none=True)
        with self.tape.recording():
            value = loss()
        value.backward()
        self._batch = self.tape.factors_after_backward()
        self.gradient = self.layout.gradient()

    def chunk(self, sizes: list[int], x: Tensor, y: Tensor) -> None:
        """Take groups of consecutive samples of these sizes as constraints."""
        with self.tape.recording():
            outputs = self.model(x)
        pairs = zip(outputs.split(sizes), y.split(sizes), strict=True)
        loss = torch.stack([cross_entropy(*pair) for pair in pairs]).sum()
        self._chunks.append(self.tape.factors_of(loss))
        self._sizes.append(sizes)
        for group in zip(x.split(sizes), y.split(sizes), strict=True):
            self._rows.append(gradient(self.model, self.layout, *group))

    @property
    def factors(self) -> FactoredGradients:
        return FactoredGradients(self.layout, self._batch, self._chunks, self._sizes)

    def batch_makes_up(self, gradient: Tensor) -> bool:
        """Whether the factors of the batch are those of this gradient, (P,)."""
        return make_up(self._batch, self.layout, gradient)

    @property
    def references(self) -> Tensor:
        return torch.stack(self._rows)

    def check_products(self) -> None:
        """Compare inner products by block and constraint."""
        blocks = self.layout.blocks
        pairs = zip(self.gradient.split(blocks), self.references.split(blocks, dim=1), strict=True)
        expected = torch.stack([G @ g for g, G in pairs])
        torch.testing.assert_close(self.factors.products(), expected, atol=1e-12, rtol=1e-10)

    def check_references(self) -> None:
        """Compare the columns of each block alone, of every other block, and of all."""
        columns = self.references.split(self.layout.blocks, dim=1)
        n = len(columns)
        for blocks in (*[[b] for b in range(n)], [*range(0, n, 2)], [*range(n)]):
            expected = torch.cat([columns[b] for b in blocks], dim=1)
            actual = self.factors.references(blocks)
            torch.testing.assert_close(actual, expected, atol=1e-13, rtol=1e-10)


def factored(
    model: nn.Module,
    partition: Partition,
    chunks: Sequence[list[int]],
    *,
    seed: int = 0,
    signs: Sequence[int] = (),
) -> Both:
    """Gradients of a random batch and of random groups, chunk by chunk.

    Args:
        model: Takes samples (n, 6).
        partition: The layout's.
        chunks: Sizes of the groups, by chunk.
        seed: Seed of the samples.
        signs: Sign of the first coordinate of all samples of the batch, of the first chunk, and so
            on; left as drawn if there are none.
    """
    both = Both(model, partition)
    drawn = [samples(sum(n), 100 * seed + i) for i, n in enumerate([[6], *chunks])]
    for (x, _), sign in zip(drawn, signs, strict=False):
        x[:, 0] = sign * x[:, 0].abs()
    (x, y), *others = drawn
    both.batch(lambda: cross_entropy(model(x), y))
    for sizes, group in zip(chunks, others, strict=True):
        both.chunk(sizes, *group)
    return both
