"""Products of Fisher information matrices with vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import left_as_it_was
from avalanche_ext.functional.per_sample.backward import SamplePass
from avalanche_ext.functional.per_sample.chunks import Rows, places_by_task
from avalanche_ext.functional.per_sample.proof import proved_rules

_MEMORY = 2**26
"""Maximum number of bytes that a pass keeps."""

# Memory of a graph for second derivatives, relative to a plain pass, roughly.
_OF_TWO_PASSES = 4


class FisherProducts:
    """Products F v = (1/N) Σ_n J_nᵀ (Σ_r s_rn s_rnᵀ) J_n v with vectors v, without forming F.

    J_n v is the derivative with respect to u of J_nᵀ u, which is linear in u. PyTorch can
    differentiate more operations twice than in forward mode, one graph serves several vectors, and
    on small models this is faster.

    Args:
        model: f, run in eval mode over all samples at each call; it does not change.
        layout: The parameters, in the order of v.
        x: Samples, (N, ...).
        rows: Returns s; see `diagonal.fisher_rows`.
        t: Task labels, (N,), of multi-head models.
        chunk_size: Number of samples per pass; None: as many as fit into 64 MiB.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: FlatLayout,
        x: Tensor,
        rows: Rows,
        *,
        t: Tensor | None = None,
        chunk_size: int | None = None,
    ) -> None:
        self.model, self.layout, self.rows = model, layout, rows
        self.inputs = [part for part in (x, t) if part is not None]
        self.places: list[Tensor] = []
        with left_as_it_was(model, x):
            for places in places_by_task(x, t):
                size = chunk_size or self._fitting(places[:2])
                self.places += torch.split(places, size)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the products with some vectors, (b, P), as (b, P)."""
        products = torch.zeros_like(vectors)
        with left_as_it_was(self.model, self.inputs[0]), sdpa_kernel(SDPBackend.MATH):
            for place in self.places:
                self._add(products, vectors, place)
        return products / len(self.inputs[0])

    def _add(self, products: Tensor, vectors: Tensor, place: Tensor) -> None:
        outputs = SamplePass(self.model, [], [part[place] for part in self.inputs]).outputs
        s = self.rows(outputs.detach(), place)
        parameters = self.layout.parameters
        at_outputs = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(
            outputs, parameters, at_outputs, create_graph=True, allow_unused=True
        )
        used = [i for i, g in enumerate(pulled) if g is not None and g.requires_grad]
        for product, vector in zip(products, vectors, strict=True):
            pieces = self.layout.pieces(vector)
            (pushed,) = torch.autograd.grad(
                [pulled[i] for i in used], at_outputs, [pieces[i] for i in used], retain_graph=True
            )
            weights = torch.einsum("rnc,nc->rn", s, pushed)
            gradients = torch.autograd.grad(
                outputs,
                parameters,
                torch.einsum("rn,rnc->nc", weights, s),
                retain_graph=True,
                allow_unused=True,
            )
            product += self.layout.flatten(gradients)

    def _fitting(self, first: Tensor) -> int:
        rules = proved_rules(self.model, self.layout, [part[first] for part in self.inputs], 1)
        if not rules.is_independent:
            return 1
        of_sample = rules.n_kept * self.layout.parameters[0].element_size()
        return max(1, _MEMORY // (_OF_TWO_PASSES * of_sample))
