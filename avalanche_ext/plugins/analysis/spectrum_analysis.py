"""The spectrum of the Fisher after each experience."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from avalanche.models.utils import is_multi_task_module
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import nn

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.functional.fisher.diagonal import FisherKind
from avalanche_ext.functional.fisher.spectrum import (
    fisher_eigenvalues,
    fisher_spectrum,
    layer_curvature,
    layer_mass,
)
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.model.running import generators_kept
from avalanche_ext.plugins.analysis.spectra import Spectrum, as_arrays
from avalanche_ext.plugins.core.composition import ReportingPlugin
from avalanche_ext.plugins.core.experiences import Endings, draw_samples
from avalanche_ext.validation import validated


class SpectrumAnalysisPlugin(ReportingPlugin):
    """Look at the spectrum of the model's Fisher after each experience; nothing is changed.

    The Fisher is that of the model's softmax, in evaluation mode and without augmentation, on
    samples drawn without replacement from the training set of the experience that has just been
    learned, whatever else was replayed. On an online stream this is done when all parts of an
    experience of the original stream have been learned, on samples of all of it.

    Eigenvalues beyond those of so many samples are not seen: the Fisher has at most as many as
    there are samples (with the true one, times classes), and shares and ranks are those of this
    estimate. A model whose parameters are no longer finite has none.

    The time it takes counts as training.

    Args:
        rank: How many of the largest eigenvalues are kept with what their eigenvectors tell; the
            Fisher may have fewer.
        n_samples: Number of samples, all of an experience's if it has fewer.
        kind: Whether labels are drawn from the model's own predictions ("sampled"), all of them
            weighted by their probability ("true"), or the data's ("empirical").
        seed: Seed of the draws.

    Raises:
        pydantic.ValidationError: If an argument is not of the given type or range.
    """

    supports_distributed = False

    @validated
    def __init__(
        self,
        rank: PositiveInt = 50,
        n_samples: PositiveInt = 1000,
        kind: FisherKind = "sampled",
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.rank = rank
        self.n_samples = n_samples
        self.kind: FisherKind = kind
        self.spectra: list[Spectrum] = []
        self._is_new = False
        self._endings = Endings()
        self._generator = torch.Generator().manual_seed(seed)

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note that nothing is known yet of what comes."""
        self._is_new = False

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Analyse the model, if the experience is over."""
        if self._endings.ends(strategy.experience) and _is_finite(strategy.model):
            with generators_kept(strategy.device), suppress(FloatingPointError):
                self.spectra.append(self._spectrum(strategy))
                self._is_new = True

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers of the current experience's spectrum."""
        return self.spectra[-1].diagnostics() if self._is_new else {}

    def exhibits(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the spectra of all experiences."""
        return {"spectrum": as_arrays(self.spectra)} if self.spectra else {}

    def _spectrum(self, strategy: Strategy) -> Spectrum:
        model, experience = strategy.model, strategy.experience
        x, y, t = draw_samples(experience, self.n_samples, self._generator, strategy.device)
        given: dict[str, Any] = {
            "kind": self.kind,
            "t": t if is_multi_task_module(model) else None,
            "seed": int(torch.randint(2**31, (), generator=self._generator)),
        }
        spectrum = fisher_spectrum(model, x, y, self.rank, **given)
        layout = FlatLayout(model.named_parameters())
        return Spectrum(
            experience=origin_index(experience),
            eigenvalues=spectrum.eigenvalues,
            all_eigenvalues=fisher_eigenvalues(model, x, y, **given),
            trace=spectrum.trace,
            sizes=_sizes(layout),
            mass=layer_curvature(spectrum, layout),
            unweighted_mass=layer_mass(spectrum, layout),
        )


def _sizes(layout: FlatLayout) -> dict[str, int]:
    """Return the number of parameters of each layer, by its name."""
    sizes: dict[str, int] = {}
    for name, numel in zip(layout.names, layout.numels, strict=True):
        layer = name.rpartition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + numel
    return sizes


@torch.no_grad()
def _is_finite(model: nn.Module) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())
