"""How well approximations of the Fisher predict δᵀ F δ along the training that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avalanche_ext.functional.fisher.forms import (
    eigenvalue_errors,
    fisher_forms,
    fisher_quadratics,
    kept_of_trace,
)
from avalanche_ext.functional.fisher.spectrum import FisherSpectrum
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.results.exhibits import FisherForms, Floats, padded, table

_NOTHING = np.empty((2, 0))


@dataclass(frozen=True)
class _Learned:
    """A model that has learned an experience, and the samples for its Fisher."""

    model: nn.Module
    x: Tensor
    y: Tensor
    given: Mapping[str, Any]

    def shapes(self) -> dict[str, torch.Size]:
        return {name: p.shape for name, p in self.model.named_parameters() if p.requires_grad}

    def quadratics(self, deltas: Tensor) -> NDArray[np.float64]:
        found = fisher_quadratics(self.model, self.x, self.y, deltas, **self.given)
        return found.cpu().numpy()


class FisherPath:
    """Approximations of the Fisher at θ*, and δᵀ F δ along later training, where δ = θ − θ*.

    In the first row of `estimated` and `true`, F is the Fisher of the last experience. In the
    second, it is the sum of the Fishers of all experiences so far, each computed at the weights
    reached after its own experience. The sum's approximations are merged as in EWC, without decay,
    so they take no more memory than those of one experience. A model that grows starts a new sum.

    Args:
        experience: The last experience learned at θ*, counted from 0.
        model: The model at θ*; it is copied.
        samples: Samples that the Fisher is computed on: x, y, and t or None.
        spectrum: The Fisher's largest eigenpairs, at least one.
        given: Further arguments of the Fisher: `kind` and `seed`.
        before: The path of the previous experience, whose memory is freed.

    Attributes:
        kept: The trace of each approximation divided by that of the Fisher.
        errors: The relative error of each approximation's largest eigenvalues, see
            `eigenvalue_errors`.
        iterations: The iterations after which δ was recorded.
        estimated: δᵀ F̂ δ of each approximation, for the experience and for the sum, (2, m); empty
            until `finish`.
        true: δᵀ F δ, (2, m), also empty until then.
    """

    def __init__(
        self,
        experience: int,
        model: nn.Module,
        samples: tuple[Tensor, Tensor, Tensor | None],
        spectrum: FisherSpectrum,
        given: Mapping[str, Any],
        before: FisherPath | None = None,
    ) -> None:
        self.experience = experience
        x, y, t = samples
        own = _Learned(deepcopy(model), x, y, {**given, "t": t})
        self._forms = fisher_forms(own.model, x, y, spectrum, **own.given)
        self.kept = kept_of_trace(self._forms, spectrum.trace)
        self.errors = eigenvalue_errors(self._forms, spectrum)
        self._learned, self._merged = [own], self._forms
        if before is not None and before._learned[-1].shapes() == own.shapes():
            self._learned = [*before._learned, own]
            pairs = ((name, before._merged[name], form) for name, form in self._forms.items())
            self._merged = {name: old.merged(form, 1.0) for name, old, form in pairs}
        if before is not None:
            before._let_go()
        self.iterations: list[int] = []
        self.estimated: dict[str, NDArray[np.float64]] = dict.fromkeys(self._forms, _NOTHING)
        self.true = _NOTHING
        self._deltas: list[Tensor] = []
        self._is_over = False

    @torch.no_grad()
    def take(self, model: nn.Module, iteration: int) -> None:
        """Record δ at the current weights, unless the path has ended or shapes have changed."""
        if self._is_over:
            return
        now = dict(model.named_parameters())
        layout = FlatLayout(self._learned[-1].model.named_parameters())
        pairs = [*zip(layout.names, layout.parameters, strict=True)]
        if any(name not in now or now[name].shape != p.shape for name, p in pairs):
            return
        moved = [now[name].detach() - p for name, p in pairs]
        self._deltas.append(layout.flatten(moved))
        self.iterations.append(iteration)

    def finish(self) -> None:
        """Compute δᵀ F δ of the Fishers and of their approximations."""
        self._is_over = True
        if not self._deltas:
            return
        deltas = torch.stack(self._deltas)
        found = [each.quadratics(deltas) for each in self._learned]
        self.true = np.stack([found[-1], np.sum(found, axis=0)])
        for name in self._forms:
            both = self._forms[name], self._merged[name]
            values = [[2 * float(form.penalty(delta)) for delta in deltas] for form in both]
            self.estimated[name] = np.array(values)
        self._deltas = []

    def _let_go(self) -> None:
        self._learned, self._forms, self._merged, self._deltas = [], {}, {}, []


def as_exhibit(paths: Sequence[FisherPath]) -> FisherForms:
    """Return one or more paths in the form that reports read; unfinished paths have no points."""
    forms = [*paths[0].kept]

    def of_form(name: str, which: int) -> Floats:
        return padded(each.estimated[name][which] for each in paths)

    return FisherForms(
        experience=np.array([each.experience for each in paths], dtype=np.int64),
        form=np.array(forms, dtype=np.str_),
        trace=table([each.kept for each in paths], forms),
        eigenvalue_error=table([each.errors for each in paths], forms),
        iteration=padded(
            np.array(each.iterations[: each.true.shape[1]], dtype=np.float64) for each in paths
        ),
        true=padded(each.true[0] for each in paths),
        estimated=np.stack([of_form(name, 0) for name in forms], axis=1),
        true_sum=padded(each.true[1] for each in paths),
        estimated_sum=np.stack([of_form(name, 1) for name in forms], axis=1),
    )
