"""Elastic weight consolidation with one Kronecker product for each layer."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.fisher.diagonal import FisherKind
from avalanche_ext.functional.fisher.kronecker import kronecker_fisher
from avalanche_ext.functional.fisher.summed import SummedCurvature
from avalanche_ext.functional.per_sample.factors import Sharing
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

Merge = Literal["sum", "nearest", "none"]


class KroneckerEWCPlugin(ConsolidationPlugin):
    """EWC with a Kronecker-factored Fisher block for each layer.

    Online EWC holds each weight on its own. Here the penalty also knows how the weights of a layer
    [W b] act together:

        (λ/2) Σ_layers ⟨Δ, G Δ A⟩,    Δ = [W b] − [W b]*,

    where A is the mean of a aᵀ over the layer's inputs, G that of e eᵀ over the gradients at its
    outputs, and A ⊗ G stands for the layer's block of the Fisher (K-FAC, Martens, Grosse 2015,
    arXiv:1503.05671; as a penalty, Ritter, Botev, Barber 2018, arXiv:1805.07810, equations 8 to
    10). `functional.kronecker_fisher` says what A and G are for convolutions and other layers that
    see several positions (Eschenhagen et al. 2023, arXiv:2311.00636), and which parameters get a
    diagonal instead. With A = U_A S_A U_Aᵀ and G = U_G S_G U_Gᵀ the proximal step is exact,

        Δ ← U_G [(U_Gᵀ Δ U_A) / (1 + ηλ s_G s_Aᵀ)] U_Aᵀ.

    It costs two products with each matrix of eigenvectors. So by default only every tenth iteration
    pulls, ten times as strongly, with the `rank` top eigenvectors of each factor. All other
    eigenvalues are replaced by their mean, which keeps the trace
    (`functional.fisher.factors.Basis`). Memory does not grow with the number of tasks (unless
    `merge="none"`): for layers with I inputs and O outputs it is Σ (I² + O²) for the factors, Σ
    rank (I + O) for the eigenvectors, and P for θ*. `ConsolidationPlugin` says when the factors are
    estimated and how the penalty acts.

    Deviations from Ritter, Botev and Barber:

    1. Their penalty keeps a Kronecker product for each task. Here one product approximates the sum
       γF + F′: "sum" takes the mean of A and the sum of G; "nearest" takes the product nearest to
       the sum. `merge="none"` is their form, with memory for each task; it takes one proximal step
       per task in turn, which to first order is the step for the sum.
    2. The penalty acts by a proximal step; they follow its gradient, as `update="gradient"` does.
    3. The curvature is the Fisher of the model's outputs ("true" or "sampled"), and λ scales it;
       their block-diagonal Gauss-Newton matrix is the same for softmax outputs. Their prior is left
       out, but `damping` can replace it.
    4. Earlier estimates decay by γ; with 1 they do not.
    5. If weights of one layer have different rates η, as under Adam or with parameter groups, the
       step uses one rate for the layer: their harmonic mean, weighted by the diagonal of A ⊗ G.
       With a single rate it is exact.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1.
        n_samples: Number of samples for each estimate; None takes the whole experience.
        kind: The labels that the Fisher is computed with: "true", the expectation over the model's
            own predictions; "sampled", one draw from them for each sample; "empirical", the data's.
        sharing: For layers that see several positions of a sample: "expand" treats positions as
            samples, "reduce" sums over them first.
        merge: "sum", "nearest" or "none", see above.
        damping: d, at least 0: adds about d to the curvature of every weight of a layer, by using A
            + π√d I and G + (√d/π) I in each estimate (Martens, Grosse 2015, section 6.3).
        rank: Maximum number of eigenvectors of each factor that a pull uses; None takes all.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        interval: Number n of iterations between pulls, each n times as strong; 1 with
            `update="gradient"`. None is 10, or 1 with `update="gradient"`.
        every: For streams without boundaries: number of iterations between estimates, each from the
            stream's last `n_samples` rows; None estimates after each experience.
        normalisation: Divisor of each F′: "none"; "max", its largest eigenvalue; "trace", the mean
            of its diagonal.
        seed: Seed of the plugin's own draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, if `every` is given without
            `n_samples`, or if `interval` is not 1 with `update="gradient"`.
    """

    prefix: ClassVar[str] = "kronecker_ewc"
    needs_scores: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        lam: Amount = 10.0,
        decay: Share = 0.95,
        *,
        n_samples: PositiveInt | None = None,
        kind: FisherKind = "true",
        sharing: Sharing = "expand",
        merge: Merge = "sum",
        damping: Amount = 0.0,
        rank: PositiveInt | None = 100,
        update: Update = "proximal",
        interval: PositiveInt | None = None,
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        if interval is None:
            interval = 10 if update == "proximal" else 1
        super().__init__(lam, decay, n_samples, update, every, normalisation, seed, interval)
        self.kind = kind
        self.sharing = sharing
        self.merge = merge
        self.damping = damping
        self.rank = rank

    def _estimate(self, strategy: Strategy, samples: Samples) -> Curvature:
        x, y, t = samples()
        model, seed = own_model(strategy), self._draw_seed()
        fisher = kronecker_fisher(
            model, x, y, self.kind, t=t, sharing=self.sharing, seed=seed
        ).damped(self.damping)
        if self.merge == "none":
            return SummedCurvature((replace(fisher, rank=self.rank),), (1.0,))
        return replace(fisher, rank=self.rank, merge=self.merge)
