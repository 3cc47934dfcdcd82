"""A quadratic penalty on the parameters of a model, which may grow."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.functional.fisher.curvature import Curvature, Step
from avalanche_ext.functional.model.gradients import FlatLayout
from avalanche_ext.plugins.core.growth import carried, places_of

# Inverting a step with eigenpairs costs as much as many pulls, during which moments change by only
# a few percent.
_PULLS_AT_ONE_RATE = 10


class QuadraticPenalty:
    """The penalty (λ/2) (θ − θ*)ᵀ F (θ − θ*) on the trained parameters of a model.

    Parameters are identified by their names. When the model has grown, an enlarged parameter keeps
    F and θ* in its leading part, and new entries get F = 0 and their current value as θ*.
    Parameters that are gone or no longer trained are dropped.

    Args:
        lam: λ, at least 0.

    Attributes:
        curvature: F; None until `renew` is called.
        anchor: θ*, (P,), in the order of the model's trained parameters; None until then.
        n_tries: Number of pulls or gradients since `renew`.
        acts: Whether at least one of them changed the parameters by more than rounding.
    """

    def __init__(self, lam: float) -> None:
        self._lam = lam
        self.curvature: Curvature | None = None
        self.anchor: Tensor | None = None
        self._shapes: dict[str, torch.Size] = {}
        self._layout: FlatLayout | None = None
        self._held: list[bool] | None = None
        self._step: tuple[list[float] | None, Step] | None = None
        self._eta: Tensor | None = None
        self._n_pulls_at_eta = 0
        self.n_tries = 0
        self.acts = False
        self._largest = 0.0
        self._has_warned = False

    def __getstate__(self) -> dict[str, Any]:
        # They refer to the model; `follow` sets them again.
        return {**self.__dict__, "_layout": None, "_held": None, "_step": None}

    @property
    def lam(self) -> float:
        """λ."""
        return self._lam

    @lam.setter
    def lam(self, lam: float) -> None:
        self._lam, self._step = lam, None

    @property
    def is_active(self) -> bool:
        """Whether there is a penalty."""
        return self.lam > 0 and self.curvature is not None

    @property
    def layout(self) -> FlatLayout:
        """The trained parameters of the model last given to `follow`."""
        assert self._layout is not None
        return self._layout

    def follow(self, model: nn.Module) -> Tensor | None:
        """Look up the trained parameters of a model, which may have grown since the last call.

        Returns:
            The places of the earlier parameters, see `places_of`; None if nothing has changed or
            this is the first call.
        """
        named = [*model.named_parameters()]
        if self._layout is not None and self._layout.is_of(named):
            return None
        layout = self._layout = FlatLayout(named)
        self._held = self._step = None
        earlier = self._shapes
        shapes = [p.shape for p in layout.parameters]
        self._shapes = dict(zip(layout.names, shapes, strict=True))
        if not earlier or [*earlier.items()] == [*self._shapes.items()]:
            return None
        self._eta = None
        places = places_of(earlier, layout)
        if self.curvature is not None and self.anchor is not None:
            self.curvature = self.curvature.placed(places, self._shapes)
            self.anchor = carried(self.anchor, places, self.weights())
        return places

    def weights(self) -> Tensor:
        """Return a copy of θ, (P,)."""
        return self.layout.flatten([p.detach() for p in self.layout.parameters])

    def renew(self, curvature: Curvature) -> None:
        """Set F to `curvature`, and θ* to the current parameters."""
        self.curvature, self.anchor = curvature, self.weights()
        self._held = self._step = self._eta = None
        self.n_tries, self.acts = 0, False
        self._largest, self._has_warned = curvature.largest, False

    @property
    def is_idle(self) -> bool:
        """Whether each pull or gradient since `renew` was lost in rounding, or F is zero.

        It is lost if it moves each parameter by less than the rounding of its largest weight.
        """
        if self.curvature is None or self.anchor is None or self.acts or not self.n_tries:
            return False
        drift = self.weights() - self.anchor
        return self._largest == 0 or bool(self.curvature.product(drift).any())

    @property
    def n_bytes(self) -> int:
        """Memory of F and θ* in bytes."""
        if self.curvature is None or self.anchor is None:
            return 0
        return self.anchor.nbytes + self.curvature.n_bytes

    def value(self) -> float:
        """Return the penalty at the current parameters."""
        if self.curvature is None or self.anchor is None:
            return 0.0
        return self.lam * float(self.curvature.penalty(self.weights() - self.anchor))

    @torch.no_grad()
    def gradient(self) -> list[Tensor]:
        """Return λF(θ − θ*) in the shapes of the parameters; the penalty must be active."""
        assert self.curvature is not None
        assert self.anchor is not None
        product = self.curvature.product(self.weights().sub_(self.anchor))
        return self.layout.pieces(product.mul_(self.lam))

    def add_gradient(self, rates: Sequence[float | Tensor]) -> None:
        """Add the gradient to the parameters' `grad`; where it is zero, None stays None.

        Warns once for each F if steps at these learning rates diverge. Optimizers that divide by
        the size of the gradient do not diverge.

        Args:
            rates: The learning rate of each parameter, a number or in the parameter's shape.
        """
        self._warn_if_unstable(max((r for r in rates if isinstance(r, float)), default=0.0))
        self.n_tries += 1
        layout = self.layout
        if self._held is None:
            self._held = self._seen()
        pieces = self.gradient()
        self.acts = self.acts or any(
            _shows(piece * rate, p)
            for p, piece, rate in zip(layout.parameters, pieces, rates, strict=True)
        )
        for p, piece, is_held in zip(layout.parameters, pieces, self._held, strict=True):
            if not is_held:
                continue
            if p.grad is not None:
                p.grad = p.grad + piece
            elif piece.any():
                # With zero gradients, weight decay and momentum would still move the weights.
                p.grad = piece

    def pull(self, rates: Sequence[float | Tensor], n_steps: int = 1) -> None:
        """Move the parameters by the proximal step.

        Args:
            rates: The learning rate of each parameter, a number or in the parameter's shape. With
                eigenpairs, rates in the parameter's shape are updated only at every tenth call.
            n_steps: Number of optimizer steps that the pull stands for.
        """
        self.n_tries += 1
        step = self._proximal_step([n_steps * rate for rate in rates])
        if self.acts:
            step()
            return
        before = self.weights()
        step()
        moves = self.layout.pieces(self.weights() - before)
        self.acts = any(map(_shows, moves, self.layout.parameters))

    def _proximal_step(self, rates: Sequence[float | Tensor]) -> Step:
        assert self.curvature is not None
        assert self.anchor is not None
        numbers = [rate for rate in rates if isinstance(rate, float)]
        if len(numbers) < len(rates):
            return self._adaptive_step(self.curvature, self.anchor, rates)
        if self._step is None or self._step[0] != numbers:
            eta = numbers[0] if len({*numbers}) == 1 else self._spread(numbers)
            step = self.curvature.step(self.layout, self.anchor, self.lam, eta)
            self._step = numbers, step
        return self._step[1]

    def _adaptive_step(
        self, curvature: Curvature, anchor: Tensor, rates: Sequence[float | Tensor]
    ) -> Step:
        if curvature.is_cheap:
            return curvature.step(self.layout, anchor, self.lam, self._spread(rates))
        if self._eta is None or self._n_pulls_at_eta == _PULLS_AT_ONE_RATE:
            self._eta, self._n_pulls_at_eta, self._step = self._spread(rates), 0, None
        self._n_pulls_at_eta += 1
        if self._step is None or self._step[0] is not None:
            step = curvature.step(self.layout, anchor, self.lam, self._eta)
            self._step = None, step
        return self._step[1]

    def _spread(self, rates: Sequence[float | Tensor]) -> Tensor:
        pairs = zip(self.layout.parameters, rates, strict=True)
        return torch.cat(
            [
                rate.flatten() if isinstance(rate, Tensor) else p.new_full((p.numel(),), rate)
                for p, rate in pairs
            ]
        )

    def _seen(self) -> list[bool]:
        """Return for each parameter whether F is non-zero anywhere in it."""
        assert self.curvature is not None
        seen = self.curvature.held()
        return [bool(piece.any()) for piece in self.layout.pieces(seen)]

    def _warn_if_unstable(self, rate: float) -> None:
        firmness = rate * self.lam * self._largest
        if firmness <= 2 or self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"the learning rate {rate:.3g} times lam={self.lam:.3g} times the largest eigenvalue "
            f"{self._largest:.3g} is {firmness:.3g}; above 2, steps along the penalty's gradient "
            "diverge: use update='proximal', which is stable at any strength, or a smaller lam",
            stacklevel=3,
        )


def _shows(change: Tensor, tensor: Tensor) -> bool:
    """Return whether a change of a tensor exceeds the rounding of its largest entry."""
    rounding = torch.finfo(tensor.dtype).eps * tensor.detach().abs().amax()
    return bool(change.abs().amax() > rounding)
