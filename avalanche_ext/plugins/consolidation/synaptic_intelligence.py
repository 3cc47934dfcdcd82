"""Synaptic intelligence (SI)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from pydantic import FiniteFloat, PositiveInt
from torch import Tensor

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.plugins.consolidation.base import (
    Amount,
    ConsolidationPlugin,
    Normalisation,
    Samples,
    Share,
    Update,
)
from avalanche_ext.plugins.core.growth import carried
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class SynapticIntelligencePlugin(ConsolidationPlugin):
    """SI: penalise changes of weights, in proportion to how much they have lowered the loss.

    Synaptic intelligence (Zenke, Poole and Ganguli 2017). Along the optimizer's path, weight i
    lowers the loss by ωᵢ = −Σ gᵢ Δθᵢ, the sum over iterations of gradient times step. At the end of
    a task that moved the weight by Δᵢ in total, its importance is

        Ωᵢ = max(ωᵢ, 0) / (Δᵢ² + ξ),

    which is, up to a factor of 2, the curvature of a parabola that falls by ωᵢ over Δᵢ. The penalty
    is (λ/2) Σᵢ Ωᵢ (θᵢ − θ*ᵢ)². `ConsolidationPlugin` says when Ω is computed and how the penalty
    acts; Ω needs no samples and no labels.

    gᵢ is the gradient that this plugin finds in `after_backward`: that of the loss with other
    plugins' terms, but without this penalty. List it before a plugin that projects gradients. Δθᵢ
    is the optimizer's step without this plugin's pull; Δᵢ contains the pull.

    Deviations from the paper:

    1. The penalty has a factor ½, so that λ is twice the paper's c.
    2. The importances of earlier tasks decay by γ; `decay=1` is the paper's sum.
    3. A negative ωᵢ counts as 0. It belongs to a weight whose path has raised the loss, and a
       negative importance would push the weight away from the anchor.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1.
        damping: ξ, above 0; 0.1 as in the paper's experiments.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        interval: Number n of iterations between pulls, each n times as strong; 1 with
            `update="gradient"`.
        every: For streams without boundaries: number of iterations between consolidations; None
            consolidates after each experience.
        normalisation: Divisor of each task's Ω: "none"; "max", its largest entry; "trace", the mean
            of its entries.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        ValueError: When training starts, beside a `GSSPlugin`, whose further steps it cannot see.
    """

    prefix: ClassVar[str] = "si"
    follows_path: ClassVar[bool] = True
    reads_samples: ClassVar[bool] = False
    not_pickled: ClassVar[tuple[str, ...]] = (
        *ConsolidationPlugin.not_pickled,
        "_gradient",
        "_before",
    )

    @validated
    def __init__(
        self,
        lam: Amount = 3.0,
        decay: Share = 0.95,
        *,
        damping: Annotated[FiniteFloat, Gt(0)] = 0.1,
        update: Update = "proximal",
        interval: PositiveInt = 1,
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
    ) -> None:
        super().__init__(lam, decay, None, update, every, normalisation, 0, interval)
        self.damping = damping
        self._path: Tensor | None = None
        self._start: Tensor | None = None
        self._gradient: Tensor | None = None
        self._before: Tensor | None = None

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the gradient without the penalty's."""
        self._gradient = self._penalty.layout.gradient()
        if self.phase is Phase.PENALTY and self._penalty.is_active:
            self._gradient.sub_(self._penalty.layout.flatten(self._penalty.gradient()))

    def before_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the parameters before the optimizer's step."""
        self._before = self._penalty.weights()

    def after_update(self, strategy: Strategy, **kwargs: Any) -> None:
        """Add the step to the path, and pull."""
        assert self._path is not None
        assert self._gradient is not None
        assert self._before is not None
        step = self._penalty.weights().sub_(self._before)
        self._path.addcmul_(self._gradient, step, value=-1)
        self._gradient = self._before = None
        super().after_update(strategy, **kwargs)

    def _follow(self, strategy: Strategy) -> Tensor | None:
        places = super()._follow(strategy)
        if self._path is None or self._start is None:
            self._begin()
        elif places is not None:
            now = self._penalty.weights()
            self._path = carried(self._path, places, torch.zeros_like(now))
            self._start = carried(self._start, places, now)
        return places

    def _begin(self) -> None:
        self._start = self._penalty.weights()
        self._path = torch.zeros_like(self._start)

    def _estimate(self, strategy: Strategy, samples: Samples) -> LowRankCurvature:
        assert self._path is not None
        assert self._start is not None
        moved = self._penalty.weights().sub_(self._start)
        importance = self._path.clamp(min=0) / (moved.square_() + self.damping)
        self._begin()
        return LowRankCurvature.of_diagonal(importance)
