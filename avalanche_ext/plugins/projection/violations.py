"""How often a gradient projection had something to do, and how much."""

from __future__ import annotations

import torch
from torch import Tensor

from avalanche_ext.functional.projection.projection import Projection


class ViolationStatistics:
    """Averages over the iterations of one experience in which there were constraints."""

    def __init__(self) -> None:
        self._n_iterations = 0
        self._n_projected = 0
        self._violated = 0.0
        self._active = 0.0
        self._angle = 0.0

    def count(self, gradient: Tensor, projection: Projection) -> None:
        """Take in one iteration: the gradient before, (P,), and its projection."""
        self._n_iterations += 1
        self._violated += float(projection.violated.double().mean())
        if projection.gradient is gradient:
            return
        self._n_projected += 1
        touched = projection.violated.any(dim=1)
        self._active += float(projection.active[touched].double().mean())
        self._angle += float(_degrees(gradient, projection.gradient))

    def numbers(self) -> dict[str, float]:
        """Return the averages by name; what needs a projection is missing if there was none.

        `projected` is the share of iterations in which the gradient was projected, `violated` the
        share of constraints it violated, `active` the share of dual variables above their bound in
        the blocks that were projected, and `angle` that between the gradient before and after, in
        degrees, the last two over projected iterations.
        """
        n, m = self._n_iterations, self._n_projected
        numbers = {"projected": m / n, "violated": self._violated / n} if n else {}
        return numbers | ({"active": self._active / m, "angle": self._angle / m} if m else {})


def _degrees(a: Tensor, b: Tensor) -> Tensor:
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0)
    return torch.rad2deg(torch.arccos(cosine.clamp(-1.0, 1.0)))
