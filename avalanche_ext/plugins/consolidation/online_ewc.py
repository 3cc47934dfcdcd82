"""Online elastic weight consolidation (online EWC)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.diagonal import diagonal_fisher, reversed_fisher
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.plugins.consolidation.base import (
    Amount,
    ConsolidationPlugin,
    Normalisation,
    Samples,
    Share,
    Update,
)
from avalanche_ext.plugins.core.model import mask_values, own_model
from avalanche_ext.validation import validated

Importance = Literal["true", "sampled", "empirical", "reversed"]


class OnlineEWCPlugin(ConsolidationPlugin):
    """Online EWC: penalise changes of weights by one running diagonal Fisher for all tasks.

    Elastic weight consolidation (Kirkpatrick et al. 2017) minimises

        loss + (λ/2) Σᵢ Fᵢ (θᵢ − θ*ᵢ)²,

    where F is the diagonal of the Fisher information. The online version (Huszár 2018; Progress and
    Compress, Schwarz et al. 2018) has one penalty around the latest parameters θ*, with
    F ← γF + F′, instead of one for each task. F′ is the mean over samples of squared per-sample
    gradients, in evaluation mode, so that λ does not depend on the batch size.
    `ConsolidationPlugin` says when F′ is estimated and how the penalty acts.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1; with 1 all tasks keep their full weight, so that after many tasks
            the model can learn nothing new.
        n_samples: Number of samples for each estimate; None takes the whole experience.
        kind: The labels that the Fisher is computed with: "true", the expectation over the model's
            own predictions; "sampled", one draw from them for each sample; "empirical", the data's;
            "reversed", the data's with reversed logits, as in EWC-DR (Liu and Chang 2026; see
            `functional.fisher.diagonal.reversed_fisher`).
        update: "proximal", a pull after the optimizer's step; or "gradient".
        interval: Number n of iterations between pulls, each n times as strong; 1 with
            `update="gradient"`.
        every: For streams without boundaries: number of iterations between estimates, each from the
            stream's last `n_samples` rows; None estimates after each experience.
        normalisation: Divisor of each F′: "none"; "max", its largest entry; "trace", the mean of
            its entries. HAL's comparison maps entries onto [0, 1]; "max" is almost the same,
            because the smallest entry is close to 0.
        seed: Seed of the plugin's own draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `every` is given
            without `n_samples`.
    """

    prefix: ClassVar[str] = "ewc"
    needs_scores: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        lam: Amount = 10.0,
        decay: Share = 0.95,
        *,
        n_samples: PositiveInt | None = None,
        kind: Importance = "true",
        update: Update = "proximal",
        interval: PositiveInt = 1,
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(lam, decay, n_samples, update, every, normalisation, seed, interval)
        self.kind: Importance = kind

    def _estimate(self, strategy: Strategy, samples: Samples) -> LowRankCurvature:
        x, y, t = samples()
        model, seed = own_model(strategy), self._draw_seed()
        if self.kind == "reversed":
            fisher = reversed_fisher(model, x, y, t=t, unused=mask_values(model))
        else:
            fisher = diagonal_fisher(model, x, y, self.kind, t=t, seed=seed)
        return LowRankCurvature.of_diagonal(self._flattened(fisher))
