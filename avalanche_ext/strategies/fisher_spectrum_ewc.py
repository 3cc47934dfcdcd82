"""Fisher-spectrum EWC as a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from pydantic import NonNegativeInt, PositiveInt

from avalanche_ext.functional.fisher.diagonal import FisherKind
from avalanche_ext.plugins import FisherSpectrumEWCPlugin, check_composition
from avalanche_ext.plugins.consolidation.base import Amount, Normalisation, Share, Update
from avalanche_ext.plugins.consolidation.fisher_spectrum_ewc import Residual


class FisherSpectrumEWC(SupervisedTemplate):  # type: ignore[misc]
    """EWC along the top eigenvectors of the Fisher information; see `FisherSpectrumEWCPlugin`.

    Args:
        lam: λ.
        decay: γ, from 0 to 1.
        rank: Number of eigenpairs.
        residual: "diagonal", what the eigenpairs leave of the Fisher's diagonal; or "none".
        n_samples: Number of samples for each estimate; None is all of the experience.
        kind: "true", "sampled" or "empirical" Fisher.
        update: "proximal" or "gradient".
        every: Number of iterations from one estimate to the next; None is by experience.
        normalisation: What each estimate is divided by: "none", "max" or "trace".
        seed: Seed of the plugin's own draws.
        plugins: Further plugins.
        base_kwargs: Arguments of Avalanche's `SupervisedTemplate`, such as model and optimizer.

    Raises:
        ValueError: If an argument is out of range, or `plugins` cannot go together.
    """

    def __init__(
        self,
        *,
        lam: Amount = 30.0,
        decay: Share = 0.95,
        rank: NonNegativeInt = 100,
        residual: Residual = "diagonal",
        n_samples: PositiveInt | None = 200,
        kind: FisherKind = "true",
        update: Update = "proximal",
        every: PositiveInt | None = None,
        normalisation: Normalisation = "none",
        seed: int = 0,
        plugins: Sequence[SupervisedPlugin] | None = None,
        **base_kwargs: Any,
    ) -> None:
        ewc = FisherSpectrumEWCPlugin(
            lam,
            decay,
            rank=rank,
            residual=residual,
            n_samples=n_samples,
            kind=kind,
            update=update,
            every=every,
            normalisation=normalisation,
            seed=seed,
        )
        super().__init__(plugins=[*(plugins or ()), ewc], **base_kwargs)
        check_composition(self.plugins)
