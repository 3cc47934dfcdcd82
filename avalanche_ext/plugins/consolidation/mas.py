"""Memory aware synapses (MAS)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.diagonal import output_sensitivity
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.plugins.consolidation.base import (
    Amount,
    ConsolidationPlugin,
    Normalisation,
    Samples,
    Share,
    Update,
)
from avalanche_ext.plugins.core.model import own_model
from avalanche_ext.validation import validated


class MASPlugin(ConsolidationPlugin):
    """MAS: penalise changes of weights, in proportion to the sensitivity of the outputs to them.

    Memory aware synapses (Aljundi et al. 2018). The importance Ωᵢ of a weight is the mean over
    samples x of `|∂‖f(x)‖² / ∂θᵢ|`, which needs no labels; the penalty is (λ/2) Σᵢ Ωᵢ (θᵢ − θ*ᵢ)².
    `ConsolidationPlugin` says when Ω is estimated and how the penalty acts.

    Deviations from the paper:

    1. The penalty has a factor ½, so that λ is twice the paper's.
    2. The importances of earlier tasks decay by γ; `decay=1` is the paper's sum.
    3. Gradients are those of single samples, not of means over batches.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1.
        n_samples: Number of samples for each estimate; None takes the whole experience.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        interval: Number n of iterations between pulls, each n times as strong; 1 with
            `update="gradient"`.
        every: For streams without boundaries: number of iterations between estimates, each from the
            stream's last `n_samples` rows; None estimates after each experience.
        normalisation: Divisor of each estimate: "none"; "max", its largest entry; "trace", the mean
            of its entries.
        seed: Seed of the plugin's own draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `every` is given
            without `n_samples`.
    """

    prefix: ClassVar[str] = "mas"
    needs_scores: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        lam: Amount = 0.1,
        decay: Share = 0.95,
        *,
        n_samples: PositiveInt | None = None,
        update: Update = "proximal",
        interval: PositiveInt = 1,
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(lam, decay, n_samples, update, every, normalisation, seed, interval)

    def _estimate(self, strategy: Strategy, samples: Samples) -> LowRankCurvature:
        x, _, t = samples()
        sensitivity = output_sensitivity(own_model(strategy), x, t=t)
        return LowRankCurvature.of_diagonal(self._flattened(sensitivity))
