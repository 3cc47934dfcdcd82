"""Elastic weight consolidation along the top eigenvectors of the Fisher information."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.diagonal import FisherKind, diagonal_fisher
from avalanche_ext.functional.fisher.low_rank import LowRankCurvature
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
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

Residual = Literal["none", "diagonal"]


class FisherSpectrumEWCPlugin(ConsolidationPlugin):
    """EWC along the top eigenvectors of the full Fisher, with a diagonal for the rest.

    This method is our own. With the top k eigenpairs λₖ, vₖ of the Fisher information, the penalty
    is

        (λ/2) Σₖ λₖ ⟨vₖ, θ − θ*⟩²  +  (λ/2) Σᵢ Dᵢ (θᵢ − θ*ᵢ)²,

    where D is the part of the Fisher's diagonal that the eigenpairs do not cover, or 0. With k = 0
    it is `OnlineEWCPlugin`. As there, estimates are merged as γF + F′. The result is truncated to k
    eigenpairs again; with a residual, the diagonal absorbs what is cut off. The memory is k + 2
    vectors. A sum of penalties around different anchors equals a penalty around one combined
    anchor, plus a constant. As in online EWC, the latest parameters are used in place of that
    anchor, since the earlier penalties have kept them close to it. `ConsolidationPlugin` says when
    the spectrum is estimated and how the penalty acts.

    The largest eigenvalues are far greater than any entry of the diagonal, so `update="gradient"`
    diverges at values of λ where online EWC does not.

    Args:
        lam: λ, at least 0; with 0 the plugin changes nothing.
        decay: γ, from 0 to 1.
        rank: k, the number of eigenpairs. Each iteration makes two passes over k·P numbers: for a
            small model, 20 pairs cost more than the iteration itself, and 100 many times as much.
        residual: "diagonal", or "none" for the eigenpairs alone.
        n_samples: Number of samples for each estimate; None takes the whole experience. Eigenpairs
            come from a kernel matrix with a row for each sample or, with `kind="true"`, for each
            class of each sample; beyond 4,096 rows the slower Lanczos method finds them. The kernel
            keeps the layers' inputs for all rows: for convolutions or many classes,
            `kind="sampled"` with more samples is as good and needs less memory.
        kind: The labels that the Fisher is computed with: "true", the expectation over the model's
            own predictions; "sampled", one draw from them for each sample; "empirical", the data's.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        interval: Number n of iterations between pulls, each n times as strong; 1 with
            `update="gradient"`.
        every: For streams without boundaries: number of iterations between estimates, each from the
            stream's last `n_samples` rows; None estimates after each experience.
        normalisation: Divisor of each F′: "none"; "max", its largest eigenvalue; "trace", the mean
            of its diagonal.
        seed: Seed of the plugin's own draws.

    Raises:
        ValueError: If an argument has a wrong type or is out of range, or if `rank` is 0 and
            `residual` is "none", or `every` is given without `n_samples`.
    """

    prefix: ClassVar[str] = "spectrum_ewc"
    needs_scores: ClassVar[bool] = True

    @validated
    def __init__(
        self,
        lam: Amount = 30.0,
        decay: Share = 0.95,
        *,
        rank: NonNegativeInt = 100,
        residual: Residual = "diagonal",
        n_samples: PositiveInt | None = 200,
        kind: FisherKind = "true",
        update: Update = "proximal",
        interval: PositiveInt = 1,
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        if rank == 0 and residual == "none":
            raise ValueError(
                "rank=0 with residual='none' leaves no penalty: give rank=1 or more, or "
                "residual='diagonal'"
            )
        super().__init__(lam, decay, n_samples, update, every, normalisation, seed, interval)
        self.rank = rank
        self.residual = residual
        self.kind = kind
        self._kept = 0.0

    def diagnostics(self) -> dict[str, float]:
        """Return the base class's numbers, and "kept", the top k's share of the trace."""
        numbers = super().diagnostics()
        return {**numbers, f"{self.prefix}/kept": self._kept} if numbers else {}

    def _estimate(self, strategy: Strategy, samples: Samples) -> LowRankCurvature:
        x, y, t = samples()
        model, seed = own_model(strategy), self._draw_seed()
        diagonal = None
        if self.residual == "diagonal":
            fisher = diagonal_fisher(model, x, y, self.kind, t=t, seed=seed)
            diagonal = self._flattened(fisher)
        if self.rank == 0 and diagonal is not None:
            return LowRankCurvature.of_diagonal(diagonal)
        top = fisher_spectrum(model, x, y, self.rank, self.kind, t=t, seed=seed)
        self._kept = float(top.eigenvalues.sum()) / top.trace if top.trace else 0.0
        return LowRankCurvature.of_spectrum(top.eigenvalues, top.eigenvectors, diagonal, self.rank)
