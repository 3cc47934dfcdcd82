"""Orthogonal gradient descent (OGD)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor

from avalanche_ext.data import Strategy, origin_index
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.functional.per_sample.matrix import gradient_matrix
from avalanche_ext.functional.projection.orthogonal import (
    Outputs,
    extended_basis,
    output_rows,
    project_orthogonally,
)
from avalanche_ext.plugins.core.composition import MethodPlugin
from avalanche_ext.plugins.core.experiences import Endings, draw_samples
from avalanche_ext.plugins.core.growth import places_of
from avalanche_ext.plugins.core.model import is_multi_head, own_model
from avalanche_ext.traits import Phase
from avalanche_ext.validation import validated


class OGDPlugin(MethodPlugin):
    """OGD: take each step orthogonal to directions that change the outputs for earlier tasks.

    Orthogonal gradient descent (Farajtabar, Azizan, Mott and Li 2020, arXiv:1910.07104, Algorithm
    1). When a task ends, the gradients of the model's outputs for some of its samples join an
    orthonormal basis. Every later gradient of the whole loss is projected onto the orthogonal
    complement of the basis, see `functional.projection.orthogonal`. To first order in the step,
    these outputs then do not change. No sample is stored, and the first task is learned as usual.

    A task is an experience of the original stream: on an online stream its gradients are taken
    after its last part or, if parts were left out, when the next experience begins. The gradients
    are those of single samples, in eval mode.

    This guarantee holds only for steps along the gradient, so use SGD. Momentum left over from an
    earlier task, weight decay and pulls of other plugins move weights out of the complement, and an
    adaptive optimizer changes the direction of the projected gradient.

    **Memory and time.** The basis holds up to `n_samples` directions of P numbers for each task
    ("all": times the number of outputs): at 200, an MLP with 90,000 weights takes 72 MB a task in
    float32. A projection reads it twice.

    When a model grows, the directions are zero in new parameters. Parameters that are gone or no
    longer trained leave the basis.

    Deviations from the paper:

    1. All directions of a task join the basis at once, by a QR decomposition with a second pass
       against rounding; added one by one they would span the same space.
    2. Directions that depend on others up to rounding are left out; the paper assumes none.

    Args:
        n_samples: Number of samples of each task, drawn without replacement; all, if it has fewer.
        outputs: Outputs whose gradients are taken: "label", each sample's logit of its own class
            (OGD-GTL, used in the paper's experiments); "mean", the mean of its logits (OGD-AVE);
            "all", each of its logits (OGD-ALL).
        seed: Seed of the draws of samples.

    Attributes:
        basis: Orthonormal directions, (K, P), in the order of the model's trained parameters; None
            before the first task has ended.

    Raises:
        ValueError: If an argument has a wrong type or is out of range.
        FloatingPointError: When a task ends, if a gradient of the outputs is not finite.
    """

    phase = Phase.GRADIENT
    looks_back: ClassVar[bool] = True
    needs_scores: ClassVar[bool] = True
    needs_float32: ClassVar[bool] = True
    # An experience would pickle its whole benchmark.
    not_pickled: ClassVar[tuple[str, ...]] = ("_layout", "_unfinished")

    @validated
    def __init__(
        self, n_samples: PositiveInt = 200, outputs: Outputs = "label", *, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_samples = n_samples
        self.outputs: Outputs = outputs
        self.basis: Tensor | None = None
        # On the CPU, so that the draws are the same on every device.
        self._generator = torch.Generator().manual_seed(seed)
        self._endings = Endings()
        self._unfinished: Any = None
        self._layout: FlatLayout | None = None
        self._shapes: dict[str, torch.Size] = {}
        self._n_projected = 0
        self._kept: Tensor | None = None

    def check(self, strategy: Strategy) -> None:
        """Raise ValueError if the plugin cannot act in this strategy."""
        super().check(strategy)
        FlatLayout(own_model(strategy).named_parameters())

    def before_train_dataset_adaptation(self, strategy: Strategy, **kwargs: Any) -> None:
        """Finish an experience that an online stream left unfinished."""
        left = self._unfinished
        if left is not None and origin_index(left) != origin_index(strategy.experience):
            self._learn(strategy, left)
            self._unfinished = None

    def before_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Reset the counts."""
        self._n_projected, self._kept = 0, None

    def before_training_epoch(self, strategy: Strategy, **kwargs: Any) -> None:
        """Note the trained parameters, after other plugins have frozen theirs."""
        self._follow(strategy)

    def after_backward(self, strategy: Strategy, **kwargs: Any) -> None:
        """Project the gradient."""
        if self.basis is None:
            return
        assert self._layout is not None
        gradient = self._layout.gradient()
        projected = project_orthogonally(gradient, self.basis)
        self._layout.write_gradient(projected)
        lengths = torch.linalg.vector_norm(torch.stack([projected, gradient]), dim=1)
        share = lengths[0] / lengths[1].clamp(min=torch.finfo(lengths.dtype).tiny)
        self._kept = share if self._kept is None else self._kept + share
        self._n_projected += 1

    def after_training_exp(self, strategy: Strategy, **kwargs: Any) -> None:
        """Extend the basis if an experience of the original stream has ended."""
        has_ended = self._endings.ends(strategy.experience)
        self._unfinished = None if self._endings.is_over else strategy.experience
        if has_ended:
            self._learn(strategy, strategy.experience)

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the current experience.

        "directions" is the number of directions in the basis, "megabytes" its memory, and "kept"
        the share of the gradient's length that remains after projection, from 0 to 1, averaged over
        the experience.
        """
        if self.basis is None:
            return {}
        numbers = {"directions": float(len(self.basis)), "megabytes": self.basis.nbytes / 1e6}
        if self._kept is not None:
            numbers["kept"] = float(self._kept) / self._n_projected
        return {f"ogd/{name}": value for name, value in numbers.items()}

    def _learn(self, strategy: Strategy, experience: Any) -> None:
        """Extend the basis by the gradients of the outputs for samples of an experience."""
        self._follow(strategy)
        assert self._layout is not None
        x, y, t = draw_samples(experience, self.n_samples, self._generator, strategy.device)
        model, rows = own_model(strategy), output_rows(self.outputs, y)
        heads = t if is_multi_head(strategy) else None
        new = gradient_matrix(model, self._layout, x, rows, t=heads)
        held = new[:0] if self.basis is None else self.basis
        self.basis = extended_basis(held, new)

    def _follow(self, strategy: Strategy) -> None:
        """Look up the trained parameters, and move the basis to their places if they changed."""
        named = [*own_model(strategy).named_parameters()]
        if self._layout is not None and self._layout.is_of(named):
            return
        layout = self._layout = FlatLayout(named)
        earlier = self._shapes
        shapes = [p.shape for p in layout.parameters]
        self._shapes = dict(zip(layout.names, shapes, strict=True))
        if self.basis is None:
            return
        self.basis = self.basis.to(layout.parameters[0])
        if [*earlier.items()] == [*self._shapes.items()]:
            return
        places = places_of(earlier, layout)
        stay = places >= 0
        moved = self.basis.new_zeros(len(self.basis), sum(layout.numels))
        moved[:, places[stay]] = self.basis[:, stay]
        self.basis = moved if bool(stay.all()) else extended_basis(moved[:0], moved)
