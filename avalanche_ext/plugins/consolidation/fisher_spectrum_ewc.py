"""Elastic weight consolidation along the top eigenvectors of the Fisher information."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from avalanche_ext.data import Strategy
from avalanche_ext.functional.fisher.curvature import Curvature
from avalanche_ext.functional.fisher.diagonal import FisherKind, diagonal_fisher
from avalanche_ext.functional.fisher.spectrum import fisher_spectrum
from avalanche_ext.plugins.consolidation.base import (
    Amount,
    ConsolidationPlugin,
    Normalisation,
    Samples,
    Share,
    Update,
)
from avalanche_ext.validation import validated

Residual = Literal["none", "diagonal"]


class FisherSpectrumEWCPlugin(ConsolidationPlugin):
    """EWC along the top eigenvectors of the Fisher, and along coordinates for the rest; our own.

    With the top k eigenpairs λₖ, vₖ of the full Fisher information, the penalty is

        (λ/2) Σₖ λₖ ⟨vₖ, θ − θ*⟩²  +  (λ/2) Σᵢ Dᵢ (θᵢ − θ*ᵢ)²,

    where D is what the eigenpairs leave of the Fisher's diagonal, or 0. With no eigenpairs it is
    `OnlineEWCPlugin`. Estimates are merged as there, γF + F′, and truncated to k eigenpairs again;
    with a residual, the diagonal takes in what is cut off. What is kept is k + 2 vectors. Penalties
    about different anchors add up to one about another anchor and a constant; as in online EWC the
    latest parameters, near which those of earlier tasks have been held, take its place. See
    `ConsolidationPlugin` for when the spectrum is estimated, and how it pulls.

    The largest eigenvalues exceed any entry of the diagonal by far, so that `update="gradient"`
    diverges at a λ at which online EWC does not.

    Args:
        lam: λ, at least 0; with 0 it changes nothing.
        decay: γ, from 0 to 1.
        rank: k, the number of eigenpairs. In each iteration they cost two passes over k·P numbers:
            of a small model, 20 cost more than the iteration itself, 100 many times as much.
        residual: "diagonal", or "none" for the eigenpairs alone.
        n_samples: Number of samples for each estimate; None is all of the experience. The kernel
            that the eigenpairs are found in has a row for each sample, and with `kind="true"` for
            each class of each sample; beyond 4,096 rows they are found by Lanczos, which is slower.
            The kernel keeps what layers saw of all rows: for convolutions or many classes,
            `kind="sampled"` with more samples does as well in less memory.
        kind: Whose labels the Fisher is of: "true", the expectation over the model's own
            predictions; "sampled", one draw from them for each sample; "empirical", the data's.
        update: "proximal", a pull after the optimizer's step; or "gradient".
        every: Number of iterations from one estimate to the next, of the last `n_samples` rows of
            the stream, for streams without boundaries; None is by experience.
        normalisation: What each F′ is divided by: "none"; "max", its largest eigenvalue; "trace",
            the mean of its diagonal.
        seed: Seed of the plugin's own draws.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
        ValueError: If `rank` is 0 and there is no residual, or there is `every`, but no
            `n_samples`.
    """

    prefix: ClassVar[str] = "spectrum_ewc"

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
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
    ) -> None:
        if rank == 0 and residual == "none":
            raise ValueError(
                "rank=0 with residual='none' leaves no penalty: give a rank of at least 1, or "
                "residual='diagonal'"
            )
        super().__init__(
            lam,
            decay,
            n_samples,
            update=update,
            every=every,
            normalisation=normalisation,
            seed=seed,
        )
        self.rank = self._rank = rank
        self.residual = residual
        self.kind = kind
        self._kept = 0.0

    def diagnostics(self) -> dict[str, float]:
        """Return those of any consolidation, and which share of the trace the top k have."""
        numbers = super().diagnostics()
        return {**numbers, f"{self.prefix}/kept": self._kept} if numbers else {}

    def _estimate(self, strategy: Strategy, samples: Samples) -> Curvature:
        x, y, t = samples()
        model, seed = strategy.model, self._draw_seed()
        diagonal = None
        if self.residual == "diagonal":
            fisher = diagonal_fisher(model, x, y, self.kind, t=t, seed=seed)
            diagonal = self._flattened(fisher)
        if self.rank == 0 and diagonal is not None:
            return Curvature.of_diagonal(diagonal)
        top = fisher_spectrum(model, x, y, self.rank, self.kind, t=t, seed=seed)
        self._kept = float(top.eigenvalues.sum()) / top.trace if top.trace else 0.0
        return Curvature.of_spectrum(top.eigenvalues, top.eigenvectors, diagonal)
