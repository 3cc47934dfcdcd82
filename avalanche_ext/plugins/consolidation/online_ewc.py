"""Online elastic weight consolidation (online EWC)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.fisher.diagonal import FisherKind, diagonal_fisher
from avalanche_ext.plugins.consolidation.base import (
    Amount,
    ConsolidationPlugin,
    Normalisation,
    Samples,
    Share,
    Update,
)
from avalanche_ext.validation import validated


class OnlineEWCPlugin(ConsolidationPlugin):
    """Elastic weight consolidation with one running diagonal Fisher, whatever the number of tasks.

    EWC (Kirkpatrick et al. 2017) holds each weight by the diagonal of the Fisher information,

        loss + (λ/2) Σᵢ Fᵢ (θᵢ − θ*ᵢ)²;

    online (Huszár 2018; Progress and Compress, Schwarz et al. 2018), with one penalty about the
    latest parameters θ* and F ← γF + F′, rather than a penalty for each task. F′ is a mean over
    samples of squared per-sample gradients, in evaluation mode, so that λ does not depend on the
    size of batches. See `ConsolidationPlugin` for when it is estimated, and how it pulls.

    Args:
        lam: λ, at least 0; with 0 it changes nothing.
        decay: γ, from 0 to 1; with 1 nothing is ever forgotten, and after many tasks nothing more
            is learned.
        n_samples: Number of samples for each estimate; None is all of the experience.
        kind: Whose labels the Fisher is of: "true", the expectation over the model's own
            predictions; "sampled", one draw from them for each sample; "empirical", the data's.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        every: Number of iterations from one estimate to the next, of the last `n_samples` rows of
            the stream, for streams without boundaries; None is by experience.
        normalisation: What each F′ is divided by: "none"; "max", its largest entry; "trace", the
            mean of its entries. Mapping entries onto [0, 1], as HAL's comparison does, differs from
            "max" in the least entry alone, which is next to 0.
        seed: Seed of the plugin's own draws.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If there is `every`, but no `n_samples`.
    """

    prefix: ClassVar[str] = "ewc"

    @validated
    def __init__(
        self,
        lam: Amount = 10.0,
        decay: Share = 0.95,
        *,
        n_samples: PositiveInt | None = None,
        kind: FisherKind = "true",
        update: Update = "proximal",
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        super().__init__(
            lam,
            decay,
            n_samples,
            update=update,
            every=every,
            normalisation=normalisation,
            seed=seed,
        )
        self.kind = kind

    def _estimate(self, strategy: Strategy, samples: Samples) -> Curvature:
        x, y, t = samples()
        fisher = diagonal_fisher(strategy.model, x, y, self.kind, t=t, seed=self._draw_seed())
        return Curvature.of_diagonal(self._flattened(fisher))
