"""Per-sample gradients of one layer, formed for few samples or few units at a time.

If a layer sees several positions of each sample, a sample's gradient is a sum over positions, Σ_l
e_nl a_nlᵀ, whose square is not a product of sums. So it must be formed, but not for all samples and
units at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

_BLOCK = 2**20
"""Numbers in a block of gradients: few enough for a cache, many enough to be worth a call."""

HELD = 2**24
"""Numbers that are kept for several blocks instead of being computed for each: 64 MiB."""


class FormedGradients(ABC):
    """Per-sample gradients of one layer, formed in blocks; a `SampleGradients` of rules.py.

    Attributes:
        parameters: The layer's trained parameters.
        n_rows: R.
        n_samples: N.
        n_units: U, into which each parameter divides.
        unit_size: Number of entries, over all parameters together, that belong to one unit.
        granularity: Units are taken in multiples of this number.
        workspace: Numbers needed for each sample besides its gradients.
        has_all_units: Whether the units are the same for all samples.
    """

    parameters: list[nn.Parameter]
    n_rows: int
    n_samples: int
    n_units: int
    unit_size: int
    granularity: int = 1
    workspace: int = 0
    has_all_units: bool = True

    @abstractmethod
    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return the gradients of some units for some samples, (R, n, u, ·) of each parameter."""

    def held(self) -> FormedGradients:
        """Return the same, with small values that all blocks of units share computed once."""
        return self

    def blocks(self) -> Iterator[tuple[slice, slice, list[Tensor]]]:
        """Yield samples, units and their gradients, block by block; all samples of some units."""
        of_unit = self.n_rows * self.unit_size
        all_units = [*slices(self.n_units, of_unit, self.granularity)]
        source = self.held() if len(all_units) > 1 else self
        for units in all_units:
            of_sample = max((units.stop - units.start) * of_unit, self.workspace)
            for samples in slices(self.n_samples, of_sample):
                yield samples, units, source.block(samples, units)

    def shaped(self, gradients: Tensor, parameter: Tensor) -> Tensor:
        """Return the gradients of all units, (..., U, ·), in the shape of the parameter."""
        return gradients.reshape(*gradients.shape[:-2], *parameter.shape)

    def summed_powers(self, power: int) -> list[Tensor]:
        """Return Σ_m |g_m|^power of each parameter, in its shape; the power is 1 or 2."""
        totals: list[Tensor] = []
        for _, units, gradients in self.blocks():
            totals = totals or [g.new_zeros(self.n_units, g.shape[-1]) for g in gradients]
            for total, g in zip(totals, gradients, strict=True):
                total[units] += (g.square_() if power == 2 else g.abs_()).sum((0, 1))
        pairs = zip(totals, self.parameters, strict=True)
        return [self.shaped(total, p) for total, p in pairs]

    def kernel(self) -> Tensor:
        """Return the inner products of the rows, (M, M), summed over blocks of units."""
        blocks = (g @ g.T for _, gradients in self._by_units() for g in gradients)
        kernel = next(blocks)
        for block in blocks:
            kernel += block
        return kernel

    def lift(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_m w_km g_m, (k, *shape), of each parameter for weights (k, M)."""
        return self._shaped(
            [
                [(weights @ g).view(len(weights), n_units, -1) for g in gradients]
                for n_units, gradients in self._by_units()
            ]
        )

    def _by_units(self) -> Iterator[tuple[int, list[Tensor]]]:
        """Yield the number of units of each block, and the gradients of all M rows, (M, u · ·)."""
        of_unit = self.n_rows * self.unit_size
        all_units = [*slices(self.n_units, self.n_samples * of_unit, self.granularity)]
        source = self.held() if len(all_units) > 1 else self
        for units in all_units:
            of_sample = max((units.stop - units.start) * of_unit, self.workspace)
            parts = [source.block(samples, units) for samples in slices(self.n_samples, of_sample)]
            joined = zip(*parts, strict=True)
            gradients = parts[0] if len(parts) == 1 else [torch.cat(part, 1) for part in joined]
            yield units.stop - units.start, [g.flatten(2).flatten(0, 1) for g in gradients]

    def _shaped(self, blocks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        by_parameter = zip(self.parameters, zip(*blocks, strict=True), strict=True)
        return [self.shaped(torch.cat(parts, -2), p) for p, parts in by_parameter]


class Repeated(FormedGradients):
    """The gradients of a layer that runs several times: sums over the runs.

    Args:
        runs: The gradients of each run, in the same units.
    """

    def __init__(self, runs: Sequence[FormedGradients]) -> None:
        first = runs[0]
        self.runs = runs
        self.parameters = first.parameters
        self.n_rows, self.n_samples = first.n_rows, first.n_samples
        self.n_units, self.unit_size = first.n_units, first.unit_size
        self.granularity = first.granularity
        self.workspace = max(run.workspace for run in runs)

    def held(self) -> Repeated:
        """Return the same, with small values that all blocks of a run share computed once."""
        return Repeated([run.held() for run in self.runs])

    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return the sums over the runs."""
        blocks = zip(*(run.block(samples, units) for run in self.runs), strict=True)
        return [torch.stack(block).sum(0) for block in blocks]


class Kept(FormedGradients):
    """Gradients that were formed before, as a sum over a layer's runs.

    Args:
        like: A layer's gradients for some of the samples.
        n_rows: R.
        n_samples: N.

    Attributes:
        gradients: Those of all samples, (R, N, U, ·) of each parameter; zeros before `put`.
    """

    def __init__(self, like: FormedGradients, n_rows: int, n_samples: int) -> None:
        self.parameters = like.parameters
        self.n_rows, self.n_samples = n_rows, n_samples
        self.n_units, self.unit_size = like.n_units, like.unit_size
        self.granularity = like.granularity
        self.gradients = [
            p.detach().new_zeros(n_rows, n_samples, self.n_units, p.numel() // self.n_units)
            for p in self.parameters
        ]

    def put(self, formed: FormedGradients, rows: slice, place: Tensor) -> None:
        """Form the gradients of some rows for the samples at some places, and keep them."""
        for samples, units, gradients in formed.blocks():
            for kept, g in zip(self.gradients, gradients, strict=True):
                kept[rows, place[samples], units] = g

    def block(self, samples: slice, units: slice) -> list[Tensor]:
        """Return what was kept."""
        return [kept[:, samples, units].clone() for kept in self.gradients]


def slices(n: int, size: int, granularity: int = 1) -> Iterator[slice]:
    """Return consecutive slices of n items, each with as many as fit in a block, at least one."""
    step = max(1, _BLOCK // max(1, size) // granularity) * granularity
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
