"""How well forms of a Fisher predict it along the path that training takes from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.forms import (
    eigenvalue_errors,
    fisher_forms,
    fisher_quadratics,
    kept_of_trace,
)
from avalanche_ext.functional.fisher.spectrum import FisherSpectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.results.exhibits import FisherForms, padded


class FisherPath:
    """Forms of the Fisher at weights θ*, and δᵀ F δ along the training that follows, δ = θ − θ*.

    Args:
        experience: The experience that has been learned at θ*, counted from 0.
        model: The model at θ*; it is copied.
        samples: What the Fisher is computed on: x, y, and t or None.
        spectrum: The Fisher's largest eigenpairs, at least one.
        given: How else the Fisher is computed: `kind` and `seed`.

    Attributes:
        kept: The trace of each form over that of the Fisher.
        errors: The relative error of the largest eigenvalues of each form, see `eigenvalue_errors`.
        iterations: After how many iterations δ was taken.
        estimated: δᵀ F̂ δ of each form, a list over the same.
        true: δᵀ F δ; empty until `finish`.
    """

    def __init__(
        self,
        experience: int,
        model: nn.Module,
        samples: tuple[Tensor, Tensor, Tensor | None],
        spectrum: FisherSpectrum,
        given: Mapping[str, Any],
    ) -> None:
        self.experience = experience
        self._x, self._y, t = samples
        self._given = {**given, "t": t}
        self._model: nn.Module | None = deepcopy(model)
        self._forms = fisher_forms(self._model, self._x, self._y, spectrum, **self._given)
        self.kept = kept_of_trace(self._forms, spectrum.trace)
        self.errors = eigenvalue_errors(self._forms, spectrum)
        self.iterations: list[int] = []
        self.estimated: dict[str, list[float]] = {name: [] for name in self._forms}
        self.true: list[float] = []
        self._deltas: list[Tensor] = []

    @torch.no_grad()
    def take(self, model: nn.Module, iteration: int) -> None:
        """Take δ at the weights of now, unless parameters have other shapes than at θ*."""
        if self._model is None:
            return
        now, before = (dict(each.named_parameters()) for each in (model, self._model))
        layout = FlatLayout(self._model.named_parameters())
        if any(n not in now or now[n].shape != before[n].shape for n in layout.names):
            return
        ends = [now[name] for name in layout.names]
        delta = layout.flatten(ends) - layout.flatten(layout.parameters)
        self.iterations.append(iteration)
        self._deltas.append(delta)
        for name, form in self._forms.items():
            self.estimated[name].append(2 * float(form.penalty(delta)))

    def finish(self) -> None:
        """Compute δᵀ F δ, and let go of what is no longer needed."""
        if self._model is not None and self._deltas:
            deltas = torch.stack(self._deltas)
            true = fisher_quadratics(self._model, self._x, self._y, deltas, **self._given)
            self.true = true.tolist()
        self._model, self._deltas, self._forms = None, [], {}
        self._x = self._y = torch.empty(0)
        self._given = {}


def as_exhibit(paths: Sequence[FisherPath]) -> FisherForms:
    """Return at least one path as a report reads them; without those that are not finished."""
    forms = [*paths[0].kept]
    points = [each.true for each in paths]
    return FisherForms(
        experience=np.array([each.experience for each in paths], dtype=np.int64),
        form=np.array(forms, dtype=np.str_),
        trace=np.array([[each.kept[name] for name in forms] for each in paths]),
        eigenvalue_error=np.array([[each.errors[name] for name in forms] for each in paths]),
        iteration=padded(
            np.array(each.iterations[: len(true)], dtype=np.float64)
            for each, true in zip(paths, points, strict=True)
        ),
        true=padded(np.array(true, dtype=np.float64) for true in points),
        estimated=np.stack(
            [
                padded(
                    np.array(each.estimated[name][: len(true)], dtype=np.float64)
                    for each, true in zip(paths, points, strict=True)
                )
                for name in forms
            ],
            axis=1,
        ),
    )
